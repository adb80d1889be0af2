/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Formatting into bounded buffers on the stack of the caller, and the three ways
 * to speak: message, verbose, fatal. Any thread, any context, no lock.
 */
#include <fcntl.h>
#include <stdlib.h>

#include "message.h"
#include "options.h"
#include "os.h"

#define LINE_MAX_LEN	256

MESH_TLS bool message_borrow;

static void write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		long n = os_write(fd, buf, len);

		if (n == -4 /* EINTR */)
			continue;
		if (n <= 0)
			return;
		buf += n;
		len -= (size_t)n;
	}
}

/**
 * text_flush() - write out what a bound buffer holds
 * @t: text; a buffer without descriptor is left as it is
 */
void text_flush(struct text *t)
{
	if (t->fd < 0)
		return;
	write_all(t->fd, t->buf, t->len);
	t->len = 0;
}

static void put_char(struct text *t, char c)
{
	if (t->len == t->size)
		text_flush(t);
	if (t->len < t->size)
		t->buf[t->len++] = c;
}

static void put_pad(struct text *t, unsigned int have, unsigned int want)
{
	while (have++ < want)
		put_char(t, ' ');
}

/* One conversion: what stands between '%' and the letter. */
struct conv {
	unsigned int width;
	bool left;
	bool wide;
};

static void put_string(struct text *t, const struct conv *c, const char *s)
{
	unsigned int len = 0;

	while (s[len])
		len++;
	if (!c->left)
		put_pad(t, len, c->width);
	for (unsigned int i = 0; i < len; i++)
		put_char(t, s[i]);
	if (c->left)
		put_pad(t, len, c->width);
}

static void put_number(struct text *t, const struct conv *c, uint64_t v, unsigned int base,
		       const char *sign)
{
	char digits[32];
	char *p = digits + sizeof(digits);

	*--p = '\0';
	do {
		*--p = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	while (*sign)
		*--p = *sign++;
	put_string(t, c, p);
}

static void put_signed(struct text *t, const struct conv *c, int64_t v)
{
	if (v < 0)
		put_number(t, c, -(uint64_t)v, 10, "-");
	else
		put_number(t, c, (uint64_t)v, 10, "");
}

static const char *parse_conv(const char *f, struct conv *c)
{
	*c = (struct conv){ 0 };
	if (*f == '-') {
		c->left = true;
		f++;
	}
	while (*f >= '0' && *f <= '9')
		c->width = c->width * 10 + (unsigned int)(*f++ - '0');
	while (*f == 'l' || *f == 'z') {
		c->wide = true;
		f++;
	}
	return f;
}

static void text_vprintf(struct text *t, const char *f, va_list ap)
{
	struct conv c;

	for (; *f; f++) {
		if (*f != '%') {
			put_char(t, *f);
			continue;
		}
		f = parse_conv(f + 1, &c);
		switch (*f) {
		case 's':
			put_string(t, &c, va_arg(ap, const char *));
			break;
		case 'c':
			put_char(t, (char)va_arg(ap, int));
			break;
		case 'd':
			put_signed(t, &c, c.wide ? va_arg(ap, long) : va_arg(ap, int));
			break;
		case 'u':
		case 'x':
			put_number(t, &c, c.wide ? va_arg(ap, unsigned long) :
				   va_arg(ap, unsigned int), *f == 'u' ? 10 : 16, "");
			break;
		case 'p':
			put_number(t, &c, (uintptr_t)va_arg(ap, void *), 16, "x0");
			break;
		default:
			put_char(t, *f);
		}
	}
}

void text_printf(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	text_vprintf(t, fmt, ap);
	va_end(ap);
}

/* The same open file, or else the same file: what is written to both may overlap. */
static int borrow_stderr(void)
{
	int fd = os_borrow_fd(2);

	if (fd >= 0)
		return fd;
	return os_open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK |
		       O_CLOEXEC);
}

static void say(const char *buf, size_t len)
{
	int fd = message_borrow ? borrow_stderr() : 2;

	if (fd < 0)
		return;
	write_all(fd, buf, len);
	if (message_borrow)
		os_close(fd);
}

/* The newline always fits: text that is too long is cut, not the line. */
static void line(const char *fmt, va_list ap)
{
	char buf[LINE_MAX_LEN];
	struct text t = { .fd = -1, .size = sizeof(buf) - 1, .buf = buf };

	text_printf(&t, "libmesh: ");
	text_vprintf(&t, fmt, ap);
	buf[t.len++] = '\n';
	say(buf, t.len);
}

void message(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(fmt, ap);
	va_end(ap);
}

void verbose(const char *fmt, ...)
{
	va_list ap;

	if (!options.verbose)
		return;
	va_start(ap, fmt);
	line(fmt, ap);
	va_end(ap);
}

void fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	line(fmt, ap);
	va_end(ap);
	abort();
}
