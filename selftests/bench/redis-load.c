// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * redis-load: the Redis experiment of the Mesh paper, with values that can be
 * checked afterwards.
 *
 * fill1 sets many keys with 240-byte values, fill2 fewer keys with 492-byte
 * values, which evicts random victims of fill1 and leaves holes everywhere.
 * Key i of a phase and every byte of its value follow from (seed, phase, i), so
 * verify needs no memory of what was written: it asks for each key of both
 * phases again and compares what comes back.
 *
 * One thread, one connection; requests are pipelined in batches.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define KEY_LEN		19	/* "f1:" and 16 hex digits */
#define VALUE_MAX	492
#define BATCH		64
#define IN_SIZE		(1 << 16)

/* The two fills. keys is what --keys 700000 gives; other scales are in proportion. */
static const struct phase {
	const char *name;
	unsigned int id;
	unsigned long keys;
	size_t value_len;
} phases[] = {
	{ "fill1", 1, 700000, 240 },
	{ "fill2", 2, 170000, VALUE_MAX },
};

#define NR_PHASES	(sizeof(phases) / sizeof(phases[0]))

static struct {
	const char *socket;
	unsigned long port;
	const char *phase;
	unsigned long keys;
	uint64_t seed;
} opt = { .keys = 700000, .seed = 1 };

struct conn {
	int fd;
	size_t head;		/* next byte of in[] to be parsed */
	size_t tail;		/* first byte of in[] not filled */
	char in[IN_SIZE];
};

struct verdict {
	unsigned long checked;
	unsigned long missing;
	unsigned long wrong;
};

static uint64_t key_number(const struct phase *p, unsigned long i)
{
	return mix(mix(opt.seed * 4 + p->id) + i);
}

static void make_key(const struct phase *p, unsigned long i, char key[KEY_LEN + 1])
{
	snprintf(key, KEY_LEN + 1, "f%u:%016llx", p->id,
		 (unsigned long long)key_number(p, i));
}

static void make_value(const struct phase *p, unsigned long i, char *value)
{
	payload_fill(value, p->value_len, key_number(p, i));
}

static int connect_unix(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(sun.sun_path))
		die("socket path too long: %s", path);
	strcpy(sun.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		die("cannot connect to %s: %s", path, strerror(errno));
	return fd;
}

static int connect_tcp(int port)
{
	struct sockaddr_in sin = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&sin, sizeof(sin)))
		die("cannot connect to port %d: %s", port, strerror(errno));
	return fd;
}

static void send_all(const struct conn *c, const char *buf, size_t len)
{
	ssize_t n;

	while (len) {
		n = send(c->fd, buf, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("send: %s", strerror(errno));
		buf += n;
		len -= (size_t)n;
	}
}

static void fill_input(struct conn *c)
{
	ssize_t n;

	memmove(c->in, c->in + c->head, c->tail - c->head);
	c->tail -= c->head;
	c->head = 0;
	do {
		n = recv(c->fd, c->in + c->tail, IN_SIZE - c->tail, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		die("recv: %s", strerror(errno));
	if (!n)
		die("the server closed the connection");
	c->tail += (size_t)n;
}

/* The next @len bytes of the reply stream; valid until the next call. */
static const char *take(struct conn *c, size_t len)
{
	const char *p;

	if (len > IN_SIZE)
		die("reply of %zu bytes is longer than any we ask for", len);
	while (c->tail - c->head < len)
		fill_input(c);
	p = c->in + c->head;
	c->head += len;
	return p;
}

/* The next line, its CR LF replaced by NUL; valid until the next call. */
static const char *take_line(struct conn *c)
{
	size_t len = 0;
	char *line;

	for (;;) {
		while (c->head + len + 1 >= c->tail) {
			if (len >= IN_SIZE - 2)
				die("reply line without end");
			fill_input(c);
		}
		if (c->in[c->head + len] == '\r' && c->in[c->head + len + 1] == '\n')
			break;
		len++;
	}
	line = c->in + c->head;
	line[len] = '\0';
	c->head += len + 2;
	return line;
}

static size_t put_set(const struct phase *p, unsigned long i, char *out)
{
	char key[KEY_LEN + 1];
	size_t n;

	make_key(p, i, key);
	n = (size_t)sprintf(out, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%zu\r\n",
			    KEY_LEN, key, p->value_len);
	make_value(p, i, out + n);
	n += p->value_len;
	memcpy(out + n, "\r\n", 2);
	return n + 2;
}

static size_t put_get(const struct phase *p, unsigned long i, char *out)
{
	char key[KEY_LEN + 1];

	make_key(p, i, key);
	return (size_t)sprintf(out, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", KEY_LEN, key);
}

static unsigned long scaled(const struct phase *p)
{
	return (unsigned long)((double)p->keys * (double)opt.keys / 700000.0);
}

/* One line per tenth of the way. */
static void progress(const char *what, unsigned long done, unsigned long batch,
		     unsigned long total, double start)
{
	if (done != total && done * 10 / total == (done - batch) * 10 / total)
		return;
	printf("  %s: %lu of %lu keys, %.1f s\n", what, done, total, now() - start);
	fflush(stdout);
}

static unsigned long batch_len(unsigned long done, unsigned long total)
{
	return total - done < BATCH ? total - done : BATCH;
}

static int run_fill(struct conn *c, const struct phase *p)
{
	static char out[BATCH * (VALUE_MAX + 128)];
	unsigned long done, i, n, total = scaled(p);
	double start = now();
	const char *line;
	size_t len;

	for (done = 0; done < total; done += n) {
		n = batch_len(done, total);
		for (i = 0, len = 0; i < n; i++)
			len += put_set(p, done + i, out + len);
		send_all(c, out, len);
		for (i = 0; i < n; i++) {
			line = take_line(c);
			if (strcmp(line, "+OK"))
				die("SET was answered: %s", line);
		}
		progress(p->name, done + n, n, total, start);
	}
	return 0;
}

static void check_value(struct conn *c, const struct phase *p, unsigned long i,
			struct verdict *v)
{
	const char *line = take_line(c), *got;
	long len;

	if (line[0] != '$')
		die("GET was answered: %s", line);
	len = strtol(line + 1, NULL, 10);
	if (len < 0) {
		v->missing++;
		return;
	}
	got = take(c, (size_t)len + 2);
	v->checked++;
	if ((size_t)len != p->value_len || !payload_ok(got, p->value_len, key_number(p, i)))
		v->wrong++;
}

static void verify_phase(struct conn *c, const struct phase *p, struct verdict *v)
{
	static char out[BATCH * 64];
	unsigned long done, i, n, total = scaled(p);
	double start = now();
	size_t len;

	for (done = 0; done < total; done += n) {
		n = batch_len(done, total);
		for (i = 0, len = 0; i < n; i++)
			len += put_get(p, done + i, out + len);
		send_all(c, out, len);
		for (i = 0; i < n; i++)
			check_value(c, p, done + i, v);
		progress("verify", done + n, n, total, start);
	}
}

static unsigned long dbsize(struct conn *c)
{
	const char *line;

	send_all(c, "DBSIZE\r\n", 8);
	line = take_line(c);
	if (line[0] != ':')
		die("DBSIZE was answered: %s", line);
	return strtoul(line + 1, NULL, 10);
}

/* With a limit, the buffers of a GET alone would push keys out while we look. */
static void stop_eviction(struct conn *c)
{
	static const char cmd[] = "CONFIG SET maxmemory 0\r\n";
	const char *line;

	send_all(c, cmd, sizeof(cmd) - 1);
	line = take_line(c);
	if (strcmp(line, "+OK"))
		die("CONFIG SET was answered: %s", line);
}

/*
 * A key that the server has and that no GET of ours found would be a key whose
 * own bytes went bad: count it as wrong too.
 */
static int run_verify(struct conn *c)
{
	struct verdict v = { 0 };
	unsigned long before;
	size_t i;

	stop_eviction(c);
	before = dbsize(c);
	for (i = 0; i < NR_PHASES; i++)
		verify_phase(c, &phases[i], &v);
	if (before > v.checked)
		v.wrong += before - v.checked;
	printf("verify: checked %lu missing %lu wrong %lu dbsize %lu\n",
	       v.checked, v.missing, v.wrong, before);
	return v.wrong || !v.checked;
}

static int run_phase(struct conn *c)
{
	size_t i;

	if (!strcmp(opt.phase, "verify"))
		return run_verify(c);
	for (i = 0; i < NR_PHASES; i++) {
		if (!strcmp(opt.phase, phases[i].name))
			return run_fill(c, &phases[i]);
	}
	die("unknown phase: %s", opt.phase);
}

static void parse_options(int argc, char **argv)
{
	static const char usage[] =
		"usage: redis-load (--socket PATH | --port N) --phase fill1|fill2|verify\n"
		"                  [--keys N] [--seed N]\n"
		"  --keys N  keys of fill1 (default 700000); fill2 has 17/70 of that\n"
		"  --seed N  which random keys and values (default 1)\n"
		"exit code: 0 all well, 1 a value is wrong, 2 the server cannot be used\n";
	static const struct bench_option options[] = {
		{ "socket", .word = &opt.socket },
		{ "port", .number = &opt.port },
		{ "phase", .word = &opt.phase },
		{ "keys", .number = &opt.keys },
		{ "seed", .number = &opt.seed },
		{ 0 }
	};

	if (bench_options(argc, argv, options, usage) != argc || !opt.phase ||
	    (!opt.socket && !opt.port) || opt.keys < 1000)
		bench_misused(usage);
}

int main(int argc, char **argv)
{
	static struct conn conn;

	parse_options(argc, argv);
	conn.fd = opt.socket ? connect_unix(opt.socket) : connect_tcp(opt.port);
	return run_phase(&conn);
}
