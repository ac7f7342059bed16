// Tasks shared out over threads: which thread takes which leaves no trace in the result.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>
#include "vector.h"

namespace {

// Run task(worker, i) for all i on several threads, each with a worker of its own.
template <class MakeWorker, class Task>
void share(int64_t threads, int64_t tasks, MakeWorker make, Task task) {
  std::atomic<int64_t> next{0};
  auto loop = [&] {
    const TinyIsZero guard;
    const auto worker = make();
    for (int64_t i; (i = next++) < tasks;) task(*worker, i);
  };
  std::vector<std::thread> others;
  try {
    for (int64_t i = 1; i < std::min(threads, tasks); i++) others.emplace_back(loop);
  } catch (const std::system_error &) {  // a limit of processes: those there are do it
  }
  loop();
  for (auto &thread : others) thread.join();
}

// Run task(first, last) over parts of `count` rows.
template <class Task>
void share_rows(int64_t threads, int64_t count, int64_t part, Task task) {
  auto nobody = [] { return std::unique_ptr<char>(new char); };
  share(threads, (count + part - 1) / part, nobody, [&](char &, int64_t i) {
    task(i * part, std::min(count, (i + 1) * part));
  });
}

}  // namespace
