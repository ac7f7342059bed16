// Tasks shared out over threads: which thread takes which leaves no trace in the result.
// Memory that runs out in any of them is an error of the call, told to the caller.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <thread>
#include <unistd.h>
#include <vector>
#include "vector.h"

// GOMP_parallel of the OpenMP that torch has, if it was found: its threads are there, and
// look for work a while after each of torch's operations. Others have to be started for
// each call, and to wait for a core until those give up.
using Team = void (*)(void (*)(void *), void *, unsigned threads, unsigned flags);
inline Team team = nullptr;
inline pid_t team_of = 0;  // the process; in a fork of it the threads are no more

namespace {

// Run task(worker, i) for all i on several threads, each with a worker of its own.
template <class MakeWorker, class Task>
void share(int64_t threads, int64_t tasks, MakeWorker make, Task task) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  auto loop = [&] {
    const TinyIsZero guard;
    try {
      const auto worker = make();
      for (int64_t i; (i = next++) < tasks;) task(*worker, i);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
      next = tasks;
    }
  };
  if (team && threads > 1 && tasks > 1 && team_of == getpid()) {
    // All of them, though there may be less to do: a smaller team ends the others.
    team([](void *of) { (*static_cast<decltype(loop) *>(of))(); }, &loop,
         unsigned(threads), 0);
    if (error) std::rethrow_exception(error);
    return;
  }
  std::vector<std::thread> others;
  try {
    for (int64_t i = 1; i < std::min(threads, tasks); i++) others.emplace_back(loop);
  } catch (const std::exception &) {  // a limit of processes: those there are do it
  }
  loop();
  for (auto &thread : others) thread.join();
  if (error) std::rethrow_exception(error);
}

// Run task(first, last) over parts of `count` rows.
template <class Task>
void share_rows(int64_t threads, int64_t count, int64_t part, Task task) {
  auto nobody = [] { return std::unique_ptr<char>(new char); };
  share(threads, (count + part - 1) / part, nobody, [&](char &, int64_t i) {
    task(i * part, std::min(count, (i + 1) * part));
  });
}

// For callers in C, who know no exceptions: 0, or 1 where memory ran out.
template <class Task>
int finished(Task task) {
  try {
    task();
  } catch (const std::bad_alloc &) {
    return 1;
  }
  return 0;
}

}  // namespace

#define KMUNET_ENTRY(name, Problem) \
  int kmunet_##name(const Problem *p) { return finished([&] { name(*p); }); }

