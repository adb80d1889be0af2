// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * std::promise and std::future across merges: 64 threads wait for a result each, whose
 * shared state is in the heap, among many objects that have been freed. libstdc++ waits
 * on a futex that is not marked private.
 */
#include <atomic>
#include <chrono>
#include <cstdio>
#include <future>
#include <malloc.h>
#include <memory>
#include <thread>
#include <vector>

int main()
{
	constexpr int waiters = 64, spread = 64;
	std::vector<std::promise<int>> promises;
	std::vector<std::unique_ptr<std::promise<int>>> others;
	std::vector<std::thread> threads;
	std::atomic<int> right{0};

	for (int i = 0; i < waiters * spread; i++) {
		if (i % spread == 0)
			promises.emplace_back();
		else
			others.push_back(std::make_unique<std::promise<int>>());
	}
	others.clear();
	for (int i = 0; i < waiters; i++)
		threads.emplace_back([&right, i, f = promises[i].get_future()]() mutable {
			if (f.wait_for(std::chrono::seconds(10)) == std::future_status::ready &&
			    f.get() == i)
				right++;
		});
	std::this_thread::sleep_for(std::chrono::milliseconds(500));
	for (int i = 0; i < 3; i++)
		malloc_trim(0);
	auto start = std::chrono::steady_clock::now();
	for (int i = 0; i < waiters; i++)
		promises[i].set_value(i);
	for (auto &t : threads)
		t.join();
	double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() -
						       start).count();
	/* A lost wake-up ends with the timeout, and the value is then there. */
	printf("future: %d of %d right after %.1f s\n", right.load(), waiters, seconds);
	return right != waiters || seconds > 5;
}
