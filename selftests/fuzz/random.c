// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Random numbers that a seed decides.
 */
#include "fuzz.h"

_Thread_local uint64_t *random_stream;

/* splitmix64 (Steele, Lea, Flood 2014): any state will do, and close ones do not correlate. */
uint64_t mix(uint64_t value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
	value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
	return value ^ value >> 31;
}

uint64_t next_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ULL;
	return mix(*state);
}

uint64_t random64(void)
{
	return next_random(random_stream ? random_stream : &self.random);
}

unsigned int below(unsigned int n)
{
	return (random64() >> 32) * n >> 32;
}

bool one_in(unsigned int n)
{
	return !below(n);
}
