/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The model backend. shows[page] is the file page that virtual page @page shows,
 * users[] counts who shows a file page; a page that leaves a file page which others
 * still use gets a new one from the end of the file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend.h"
#include "compiler.h"
#include "model.h"
#include "unit.h"

#define PAGES	32768

unsigned int model_fail_purges;
unsigned int model_purges;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *base;
static int memfd = -1;
static unsigned int next_file_page = PAGES;
static unsigned int shows[PAGES];
static unsigned char users[4 * PAGES];

static void map_page(unsigned int page, unsigned int file_page)
{
	char *addr = base + page * PAGE_SIZE;
	off_t offset = (off_t)file_page * (off_t)PAGE_SIZE;

	CHECK(mmap(addr, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd,
		   offset) == addr);
	shows[page] = file_page;
	users[file_page]++;
}

static int model_map(void *addr, size_t len)
{
	if (len > PAGES * PAGE_SIZE)
		return -ENOMEM;
	base = addr;
	memset(shows, 0xff, sizeof(shows));
	memfd = memfd_create("model", MFD_CLOEXEC);
	CHECK(memfd >= 0);
	CHECK(ftruncate(memfd, (off_t)sizeof(users) * (off_t)PAGE_SIZE) == 0);
	CHECK(mmap(addr, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, memfd,
		   0) == addr);
	for (unsigned int i = 0; i < len / PAGE_SIZE; i++) {
		shows[i] = i;
		users[i]++;
	}
	return 0;
}

static int model_grow(void *addr, size_t old_len, size_t new_len)
{
	char *start = (char *)addr + old_len;
	size_t len = new_len - old_len;

	if (new_len > PAGES * PAGE_SIZE)
		return -ENOMEM;
	CHECK(mmap(start, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE,
		   memfd, (off_t)old_len) == start);
	for (size_t i = old_len / PAGE_SIZE; i < new_len / PAGE_SIZE; i++) {
		shows[i] = (unsigned int)i;
		users[i]++;
	}
	return 0;
}

static void punch(unsigned int file_page)
{
	CHECK(fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)file_page * (off_t)PAGE_SIZE, (off_t)PAGE_SIZE) == 0);
}

static void purge_page(unsigned int page)
{
	unsigned int file_page = shows[page];

	if (users[file_page] == 1) {
		punch(file_page);
		return;
	}
	users[file_page]--;
	CHECK(next_file_page < sizeof(users));
	map_page(page, next_file_page++);
}

static unsigned int page_of(const void *addr)
{
	return (unsigned int)((size_t)((const char *)addr - base) / PAGE_SIZE);
}

static int model_purge(void *addr, size_t len)
{
	int ret = 0;

	pthread_mutex_lock(&lock);
	model_purges++;
	if (model_fail_purges) {
		model_fail_purges--;
		ret = -ENOMEM;
	}
	for (size_t i = 0; !ret && i < len / PAGE_SIZE; i++)
		purge_page(page_of(addr) + (unsigned int)i);
	pthread_mutex_unlock(&lock);
	return ret;
}

void model_merge(void *src, void *dst, unsigned int pages, unsigned int slot_size,
		 const uint64_t live[4])
{
	unsigned int s = page_of(src), d = page_of(dst), old[8];

	for (unsigned int i = 0; i < 256; i++)
		if (live[i / 64] >> i % 64 & 1)
			memcpy((char *)dst + i * slot_size, (char *)src + i * slot_size,
			       slot_size);
	for (unsigned int i = 0; i < pages; i++)
		old[i] = shows[s + i];
	for (unsigned int page = 0; page < PAGES; page++)
		for (unsigned int i = 0; i < pages; i++)
			if (shows[page] == old[i] && old[i] != shows[d + i]) {
				users[old[i]]--;
				map_page(page, shows[d + i]);
				if (!users[old[i]])
					punch(old[i]);
				break;
			}
}

unsigned int model_pages(void)
{
	unsigned char vec;
	unsigned int n = 0;

	for (unsigned int f = 0; f < next_file_page; f++) {
		char *p;

		if (!users[f])
			continue;
		p = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, memfd,
			 (off_t)f * (off_t)PAGE_SIZE);
		CHECK(p != MAP_FAILED);
		n += mincore(p, PAGE_SIZE, &vec) == 0 && (vec & 1);
		munmap(p, PAGE_SIZE);
	}
	return n;
}

static const struct backend_ops model = {
	.name = "model",
	.arena_map = model_map,
	.arena_grow = model_grow,
	.purge = model_purge,
	.purge_advice = MADV_REMOVE,
};

const struct backend_ops *backend_select(void)
{
	return &model;
}

const struct backend_ops *backend_current(void)
{
	return &model;
}
