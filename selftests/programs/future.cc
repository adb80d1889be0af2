// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * std::promise, std::async and std::future across merges: 64 threads wait for a result
 * each, whose shared state is in the heap, among many objects that have been freed.
 * libstdc++ waits on a futex that is not marked private. A wake-up is lost if they do not
 * all end: nothing else takes two minutes.
 */
#include <atomic>
#include <csignal>
#include <cstdio>
#include <future>
#include <malloc.h>
#include <memory>
#include <thread>
#include <vector>

#include "asleep.h"

static constexpr int waiters = 64, spread = 64;
static constexpr unsigned int patience = 120;

using Threads = std::vector<std::thread>;

/* Results that were as they should be. */
static std::atomic<int> right;

/* While @threads wait. */
static void merge(unsigned int threads)
{
	await_asleep(threads);
	for (int i = 0; i < 3; i++)
		malloc_trim(0);
}

static std::thread wait_for_result(std::future<int> f, int want)
{
	return std::thread([want, f = std::move(f)]() mutable {
		if (f.get() == want)
			right++;
	});
}

static void give_up(int)
{
	dprintf(STDOUT_FILENO, "only %d of %d have woken up\n", right.load(), waiters);
	_exit(1);
}

static bool finish(const char *what, Threads &threads)
{
	alarm(patience);
	for (auto &t : threads)
		t.join();
	alarm(0);
	printf("%s: %d of %d right\n", what, right.load(), waiters);
	fflush(stdout);
	return right.exchange(0) == waiters;
}

static bool promises()
{
	std::vector<std::promise<int>> promises;
	std::vector<std::unique_ptr<std::promise<int>>> others;
	Threads threads;

	for (int i = 0; i < waiters * spread; i++) {
		if (i % spread == 0)
			promises.emplace_back();
		else
			others.push_back(std::make_unique<std::promise<int>>());
	}
	others.clear();
	for (int i = 0; i < waiters; i++)
		threads.push_back(wait_for_result(promises[i].get_future(), i));
	merge(waiters);
	for (int i = 0; i < waiters; i++)
		promises[i].set_value(i);
	return finish("promises", threads);
}

/* Objects of all sizes that the state of a task may have. */
static void make_others(std::vector<std::unique_ptr<char[]>> &others)
{
	for (int i = 1; i < spread; i++)
		others.emplace_back(new char[64 + i % 9 * 16]());
}

/* The tasks wait for one promise, and a thread for each task. */
static bool tasks()
{
	std::vector<std::unique_ptr<char[]>> others;
	std::vector<std::future<int>> results;
	std::promise<void> gate;
	std::shared_future<void> open(gate.get_future());
	Threads threads;

	for (int i = 0; i < waiters; i++) {
		results.push_back(std::async(std::launch::async, [open, i] {
			open.wait();
			return i;
		}));
		make_others(others);
	}
	others.clear();
	for (int i = 0; i < waiters; i++)
		threads.push_back(wait_for_result(std::move(results[i]), i));
	merge(2 * waiters);
	gate.set_value();
	return finish("tasks", threads);
}

int main()
{
	signal(SIGALRM, give_up);
	bool ok = promises();

	return !tasks() || !ok;
}
