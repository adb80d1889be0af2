// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * std::promise, std::async and std::future across merges: 64 threads wait for a result
 * each, whose shared state is in the heap, among many objects that have been freed.
 * libstdc++ waits on a futex that is not marked private.
 */
#include <atomic>
#include <chrono>
#include <cstdio>
#include <future>
#include <malloc.h>
#include <memory>
#include <thread>
#include <vector>

static constexpr int waiters = 64, spread = 64;

using Threads = std::vector<std::thread>;

static void merge()
{
	std::this_thread::sleep_for(std::chrono::milliseconds(500));
	for (int i = 0; i < 3; i++)
		malloc_trim(0);
}

static std::thread wait_for_result(std::future<int> f, int want, std::atomic<int> &right)
{
	return std::thread([&right, want, f = std::move(f)]() mutable {
		if (f.wait_for(std::chrono::seconds(10)) == std::future_status::ready &&
		    f.get() == want)
			right++;
	});
}

/* A lost wake-up ends with the timeout, and the value is then there. */
static bool finish(const char *what, Threads &threads, const std::atomic<int> &right,
		   std::chrono::steady_clock::time_point start)
{
	for (auto &t : threads)
		t.join();
	double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() -
						       start).count();
	printf("%s: %d of %d right after %.1f s\n", what, right.load(), waiters, seconds);
	return right == waiters && seconds < 5;
}

static bool promises()
{
	std::vector<std::promise<int>> promises;
	std::vector<std::unique_ptr<std::promise<int>>> others;
	std::atomic<int> right{0};
	Threads threads;

	for (int i = 0; i < waiters * spread; i++) {
		if (i % spread == 0)
			promises.emplace_back();
		else
			others.push_back(std::make_unique<std::promise<int>>());
	}
	others.clear();
	for (int i = 0; i < waiters; i++)
		threads.push_back(wait_for_result(promises[i].get_future(), i, right));
	merge();
	auto start = std::chrono::steady_clock::now();
	for (int i = 0; i < waiters; i++)
		promises[i].set_value(i);
	return finish("promises", threads, right, start);
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
	std::atomic<int> right{0};
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
		threads.push_back(wait_for_result(std::move(results[i]), i, right));
	merge();
	auto start = std::chrono::steady_clock::now();
	gate.set_value();
	return finish("tasks", threads, right, start);
}

int main()
{
	bool ok = promises();

	return !tasks() || !ok;
}
