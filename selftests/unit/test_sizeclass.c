/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Size classes: every size, every offset, every alignment. */
#include "sizeclass.h"
#include "span.h"
#include "unit.h"

TEST(every_size_gets_the_smallest_class)
{
	sizeclass_init();
	for (size_t n = 0; n <= SLOT_MAX; n++) {
		unsigned int cls = sizeclass_of(n);

		CHECK(cls > CLASS_NONE && cls < NR_CLASSES);
		CHECK(sizeclasses[cls].size >= n);
		CHECK(cls == 1 || sizeclasses[cls - 1].size < n);
	}
}

TEST(classes_grow_and_waste_little)
{
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		const struct sizeclass *sc = &sizeclasses[cls];
		size_t span = sc->pages * PAGE_SIZE;

		CHECK(sc->size > sizeclasses[cls - 1].size);
		CHECK(sc->slots >= 1 && sc->slots <= SPAN_MAX_SLOTS);
		CHECK(sc->slots * sc->size <= span);
		CHECK((span - sc->slots * sc->size) * 63 <= span);
		CHECK_EQ(sc->size % 16, 0);
		CHECK(sizeclass_is_small(cls) == (sc->size < 4096));
	}
	CHECK(!sizeclass_is_small(CLASS_NONE));
}

/* No request of 128 bytes or more wastes more than a quarter of its slot. */
TEST(slots_waste_little)
{
	sizeclass_init();
	for (size_t n = 128; n <= SLOT_MAX; n++)
		CHECK((sizeclasses[sizeclass_of(n)].size - n) * 4 <= n);
}

/* Those of other spans, too, on either side. */
TEST(offsets_of_slots)
{
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		const struct sizeclass *sc = &sizeclasses[cls];

		for (size_t off = 0; off < 4 * sc->pages * PAGE_SIZE; off++) {
			if (off % sc->size == 0)
				CHECK(slot_at(sc, off) == off / sc->size);
			else
				CHECK(slot_at(sc, off) / 64 >= SPAN_WORDS);
			CHECK(slot_at(sc, -1 - off) / 64 >= SPAN_WORDS);
		}
	}
}

TEST(aligned_classes)
{
	sizeclass_init();
	for (size_t align = 1; align <= PAGE_SIZE; align *= 2)
		for (size_t n = 0; n <= SLOT_MAX; n += 5) {
			unsigned int cls = sizeclass_of_aligned(n, align);

			CHECK(cls != CLASS_NONE);
			CHECK(sizeclasses[cls].size >= n);
			CHECK_EQ(sizeclasses[cls].size % align, 0);
		}
	CHECK_EQ(sizeclass_of_aligned(SLOT_MAX + 1, 16), CLASS_NONE);
}

TEST(no_class_before_init)
{
	for (size_t n = 0; n <= SLOT_MAX; n++)
		CHECK_EQ(sizeclass_of(n), CLASS_NONE);
}

UNIT_MAIN(UNIT(no_class_before_init), UNIT(every_size_gets_the_smallest_class),
	  UNIT(classes_grow_and_waste_little), UNIT(slots_waste_little),
	  UNIT(offsets_of_slots), UNIT(aligned_classes))
