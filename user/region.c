/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Choosing the base and mapping the tables in step with the areas. Runs under the
 * lock of a page heap, or before there is a second thread.
 */
#include "large.h"
#include "message.h"
#include "os.h"
#include "region.h"
#include "span.h"

#define GIB			((uintptr_t)1 << 30)
#define BASE_STEP		((uintptr_t)2 << 20)
#ifdef __SANITIZE_THREAD__
/* It has tables for the top of the address space only, which holds nothing else by then. */
#define BASE_MIN		(uintptr_t)0x7e8000000000
#define BASE_SPAN		BASE_STEP
#else
#define BASE_MIN		(uintptr_t)0x400000000000
#define BASE_SPAN		(uintptr_t)0x100000000000
#endif
#define BASE_TRIES		16

_Static_assert(BASE_STEP % LARGE_ALIGN_MAX == 0, "runs are as aligned as page numbers");

#define PAGE_SPAN_OFFSET	(1024 * GIB)
#define PAGE_CLASS_OFFSET	(1026 * GIB)
#define SPAN_TABLE_OFFSET	(1028 * GIB)

MESH_EARLY struct region region;

static uintptr_t random_base(void)
{
	return BASE_MIN + os_random() % (BASE_SPAN / BASE_STEP) * BASE_STEP;
}

/*
 * The first page of the span array doubles as the probe whether something else
 * lives here. The chance is small, and other parts that collide later are only
 * "no memory".
 */
bool region_init(void)
{
	if (os_page_size() != PAGE_SIZE)
		fatal("pages of %zu bytes: it was built for pages of %zu", os_page_size(),
		      PAGE_SIZE);
	for (int i = 0; i < BASE_TRIES; i++) {
		region.base = random_base();
		if (os_map_at((char *)region.base + SPAN_TABLE_OFFSET, PAGE_SIZE))
			continue;
		os_unmap((char *)region.base + SPAN_TABLE_OFFSET, PAGE_SIZE);
		region.page_span = (uint32_t *)(region.base + PAGE_SPAN_OFFSET);
		region.page_class = (uint8_t *)(region.base + PAGE_CLASS_OFFSET);
		span_table = (struct span *)(region.base + SPAN_TABLE_OFFSET);
		return true;
	}
	return false;
}

/* Map what [@from, @to) of a table needs beyond the page that @from lies in. */
static int map_table(char *table, size_t from, size_t to)
{
	size_t start = round_up(from, PAGE_SIZE);
	size_t end = round_up(to, PAGE_SIZE);

	return start < end ? os_map_at(table + start, end - start) : 0;
}

static void unmap_table(char *table, size_t from, size_t to)
{
	size_t start = round_up(from, PAGE_SIZE);
	size_t end = round_up(to, PAGE_SIZE);

	if (start < end)
		os_unmap(table + start, end - start);
}

int region_map_tables(uint32_t page, size_t nr)
{
	size_t end = page + nr;
	int ret = map_table((char *)region.page_span, page * sizeof(uint32_t),
			    end * sizeof(uint32_t));

	if (ret)
		return ret;
	ret = map_table((char *)region.page_class, page, end);
	if (ret)
		unmap_table((char *)region.page_span, page * sizeof(uint32_t),
			    end * sizeof(uint32_t));
	return ret;
}

void region_unmap_tables(uint32_t page, size_t nr)
{
	size_t end = page + nr;

	unmap_table((char *)region.page_span, page * sizeof(uint32_t),
		    end * sizeof(uint32_t));
	unmap_table((char *)region.page_class, page, end);
}

int region_map_spans(size_t used, size_t len)
{
	return os_map_at((char *)span_table + used, len);
}
