// SPDX-License-Identifier: GPL-2.0-or-later
// Threads that fight over few names, and what must hold afterwards.
#pragma once

#include <string>
#include <vector>

#include "base/prng.h"
#include "base/sync.h"
#include "fs_fixture.h"

namespace stablefs {

inline constexpr int kDirectories = 6;
inline constexpr int kNames = 12;

// What a call may answer when others change the same names.
inline bool expected(const std::string& outcome) {
  static const char* const kOutcomes[] = {
      "ok",         "not_found",   "exists",     "is_a_directory",      "not_a_directory",
      "would_loop", "stale_inode", "bad_handle", "directory_not_empty",
  };
  for (const char* candidate : kOutcomes) {
    if (outcome == candidate) return true;
  }
  return false;
}

class Worker {
 public:
  Worker(FileSystem& fs, uint64_t seed, const std::vector<Ino>& directories)
      : fs_(fs), prng_(seed), directories_(directories) {}

  void run(int steps) {
    for (int i = 0; i < steps && surprise.empty(); ++i) {
      const std::string outcome = step();
      if (!expected(outcome)) surprise = outcome;
    }
    for (const HandleId handle : handles_) fs_.release(handle);
  }
  std::string surprise;

 private:
  Ino directory() { return directories_[prng_.below(directories_.size())]; }
  std::string name() { return "n" + std::to_string(prng_.below(kNames)); }

  template <class T>
  std::string forget(const Result<T>& looked_up) {
    if constexpr (std::is_same_v<T, Attributes>) {
      if (looked_up.ok()) fs_.forget(looked_up->ino, 1);
    }
    return name_of(looked_up);
  }
  std::string open_and_write() {
    auto found = fs_.lookup(directory(), name());
    if (!found.ok()) return name_of(found);
    std::string outcome = "ok";
    if (S_ISREG(found->mode)) {
      OpenFlags flags;
      flags.write = true;
      auto handle = fs_.open_file(found->ino, flags);
      outcome = name_of(handle);
      if (handle.ok()) {
        handles_.push_back(*handle);
        outcome = name_of(
            fs_.write(found->ino, *handle, prng_.below(5000), TestFs::payload("some text")));
      }
    }
    fs_.forget(found->ino, 1);
    return outcome;
  }
  std::string close_one() {
    if (handles_.empty()) return "ok";
    std::swap(handles_[prng_.below(handles_.size())], handles_.back());
    fs_.release(handles_.back());
    handles_.pop_back();
    return "ok";
  }
  std::string link_one() {
    auto found = fs_.lookup(directory(), name());
    if (!found.ok()) return name_of(found);
    std::string outcome = "ok";
    if (!S_ISDIR(found->mode)) outcome = forget(fs_.link(found->ino, directory(), name()));
    fs_.forget(found->ino, 1);
    return outcome;
  }
  std::string step() {
    const NewFile file{0644, 0, 0, 0, 0};
    switch (prng_.below(13)) {
      case 0:
        return forget(fs_.make_node(directory(), name(), file));
      case 1:
        return forget(fs_.make_directory(directory(), name(), file));
      case 2:
        return forget(fs_.make_symlink(directory(), name(), "somewhere", file));
      case 3:
        return name_of(fs_.unlink(directory(), name()));
      case 4:
        return name_of(fs_.remove_directory(directory(), name()));
      case 5:
      case 6:
        return name_of(fs_.rename(directory(), name(), directory(), name(), RenameMode::replace));
      case 7:
        return name_of(fs_.rename(directory(), name(), directory(), name(), RenameMode::exchange));
      case 8:
        return open_and_write();
      case 9:
        return close_one();
      case 10:
        return link_one();
      case 11:
        return name_of(
            fs_.read_directory(directory(), 0, false, [](auto&, auto*) { return true; }));
      default:
        return prng_.chance(50) ? name_of(fs_.sync_all()) : forget(fs_.lookup(directory(), name()));
    }
  }

  FileSystem& fs_;
  Prng prng_;
  const std::vector<Ino>& directories_;
  std::vector<HandleId> handles_;
};

// Also renamed and removed by the workers, as the names overlap.
inline std::vector<Ino> make_directories(TestFs& t) {
  std::vector<Ino> directories = {kRootIno};
  for (int i = 0; i < kDirectories; ++i) {
    const Ino parent = directories[static_cast<size_t>(i) / 2];
    directories.push_back(t.make_directory(parent, "n" + std::to_string(i)));
  }
  return directories;
}

// What is wrong afterwards, or "". Ends with the file system unmounted.
inline std::string fight(TestFs& t, uint64_t seed, uint64_t worker_count, int steps) {
  const std::vector<Ino> directories = make_directories(t);
  std::vector<Worker> workers;
  for (uint64_t i = 0; i < worker_count; ++i) workers.emplace_back(*t.fs, seed + i, directories);
  std::vector<Thread> threads;
  for (Worker& worker : workers) {
    threads.emplace_back("stress", [&worker, steps] { worker.run(steps); });
  }
  for (Thread& thread : threads) thread.join();
  std::string wrong;
  for (const Worker& worker : workers) wrong += worker.surprise;
  t->drain_orphans();
  if (const Status synced = t->sync_all(); !synced.ok()) wrong += synced.error().message();
  wrong += t.check();
  t.remount();
  wrong += t.check();
  t.unmount();
  return wrong;
}

}  // namespace stablefs
