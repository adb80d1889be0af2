/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Reading the variables of the environment that are ours, driven by options.def. Runs before
 * malloc works, so it uses nothing of libc.
 */
#include <stdbool.h>

#include "message.h"
#include "options.h"

struct options options = {
#define OPTION_UINT(field, name, def, min, max, help)	.field = (def),
#define OPTION_ENUM(field, name, def, words, help)	.field = (def),
#include "options.def"
#undef OPTION_UINT
#undef OPTION_ENUM
};

/* The value in "NAME=value", or NULL when @entry has another name. */
static const char *value_of(const char *entry, const char *name)
{
	while (*name)
		if (*entry++ != *name++)
			return NULL;
	return *entry == '=' ? entry + 1 : NULL;
}

static bool parse_uint(const char *s, unsigned int min, unsigned int max,
		       unsigned int *out)
{
	uint64_t v = 0;

	if (!*s)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		v = v * 10 + (uint64_t)(*s - '0');
		if (v > max)
			return false;
	}
	if (v < min)
		return false;
	*out = (unsigned int)v;
	return true;
}

/* Does the word that starts at @w, up to '|' or the end, equal @s? */
static bool is_word(const char *w, const char *s)
{
	while (*w && *w != '|')
		if (*w++ != *s++)
			return false;
	return !*s;
}

static bool parse_word(const char *s, const char *words, unsigned int *out)
{
	for (unsigned int i = 0; *words; i++) {
		if (is_word(words, s)) {
			*out = i;
			return true;
		}
		while (*words && *words++ != '|')
			;
	}
	return false;
}

static void set_uint(const char *entry, const char *name, unsigned int min,
		     unsigned int max, unsigned int *out)
{
	const char *value = value_of(entry, name);

	if (value && !parse_uint(value, min, max, out))
		message("%s=%s is not a number from %u to %u, using %u", name, value, min,
			max, *out);
}

static void set_word(const char *entry, const char *name, const char *words,
		     unsigned int *out)
{
	const char *value = value_of(entry, name);

	if (value && !parse_word(value, words, out))
		message("%s=%s is not one of %s, using the default", name, value, words);
}

static void set_option(const char *entry)
{
#define OPTION_UINT(field, name, def, min, max, help) \
	set_uint(entry, name, min, max, &options.field);
#define OPTION_ENUM(field, name, def, words, help) \
	set_word(entry, name, words, &options.field);
#include "options.def"
#undef OPTION_UINT
#undef OPTION_ENUM
}

static bool starts_with(const char *s, const char *start)
{
	while (*start)
		if (*s++ != *start++)
			return false;
	return true;
}

static bool is_option(const char *entry)
{
#define OPTION_UINT(field, name, def, min, max, help) \
	if (value_of(entry, name)) \
		return true;
#define OPTION_ENUM(field, name, def, words, help) \
	if (value_of(entry, name)) \
		return true;
#include "options.def"
#undef OPTION_UINT
#undef OPTION_ENUM
	return false;
}

/* The name only: whose variable it is, and how secret, is not known. */
static void name_unknown(const char *entry)
{
	char name[64];
	size_t len = 0;

	while (entry[len] && entry[len] != '=' && len < sizeof(name) - 1) {
		name[len] = entry[len];
		len++;
	}
	name[len] = '\0';
	verbose("ignoring %s: there is no such option", name);
}

/* Misspelt, most likely; or that of other software, which only MESH_VERBOSE=1 lets be named. */
static void name_all_unknown(char *const *envp)
{
	for (; envp && *envp; envp++)
		if (starts_with(*envp, "MESH_") && !is_option(*envp))
			name_unknown(*envp);
}

/* Valgrind preloads something of its own into what it runs. */
static bool is_valgrind(const char *entry)
{
	const char *value = value_of(entry, "LD_PRELOAD");

	for (; value && *value; value++)
		if (starts_with(value, "/vgpreload_"))
			return true;
	return false;
}

/*
 * Valgrind runs one thread at a time, and 3.19 does not know that io_uring_enter() waits: nobody
 * else would run until it returns.
 */
static void init_in_valgrind(void)
{
	if (options.loop == LOOP_AUTO)
		options.loop = LOOP_POLL;
}

void options_init(char *const *envp)
{
	bool valgrind = false;

	for (char *const *e = envp; e && *e; e++) {
		if (**e == 'M')
			set_option(*e);
		else if (**e == 'L')
			valgrind |= is_valgrind(*e);
	}
	if (options.verbose)
		name_all_unknown(envp);
	if (valgrind)
		init_in_valgrind();
	if (!options.background)
		options.daemon = 0;
	/* The daemon is who prints. */
	if (options.dump_signals)
		options.start_kib = 0;
}

unsigned int options_period_ms(void)
{
	return __atomic_load_n(&options.period_ms, __ATOMIC_RELAXED);
}

bool options_set_period_ms(size_t ms)
{
	if (ms < MIN_PERIOD_MS || ms > MAX_PERIOD_MS)
		return false;
	__atomic_store_n(&options.period_ms, (unsigned int)ms, __ATOMIC_RELAXED);
	return true;
}
