// SPDX-License-Identifier: GPL-2.0-or-later
#include "fs/flusher.h"

#include <algorithm>
#include <utility>

#include "fs/item_update.h"

namespace stablefs {

void Flusher::start() {
  thread_ = Thread("fs-flusher", [this] { run(); });
}

void Flusher::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Flusher::run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (marked_.empty()) {
      wake_.wait(mutex_);
      continue;
    }
    const uint64_t deadline_ns = clock_.monotonic_ns() + interval_ns_;
    while (!stopping_ && wake_.wait_until(mutex_, clock_, deadline_ns)) {
    }
    if (stopping_) return;
    lock.unlock();
    // Inodes that failed stay marked, and whoever syncs them gets the error.
    (void)commit_marked().ok();
    lock.lock();
  }
}

// Durable at once: a second interval in the journal's buffer would be one too many.
Status Flusher::commit_marked() {
  const Status flushed = flush();  // an inode that failed is no reason to keep the others waiting
  FS_TRY(store_.sync(store_.last_sequence()));
  return flushed;
}

void Flusher::mark(Inode& inode) {
  if (inode.touched.exchange(true)) return;
  MutexLock lock(mutex_);
  if (marked_.empty()) wake_.notify_one();
  marked_.push_back(inode.ino());
}

Status Flusher::flush() {
  MutexLock pass(pass_);
  std::vector<Ino> inodes;
  {
    MutexLock lock(mutex_);
    inodes.swap(marked_);
  }
  std::sort(inodes.begin(), inodes.end());
  Status first_error;
  for (const Ino ino : inodes) {
    const InodeRef inode = inodes_.find(ino);
    if (!inode) continue;  // removed since, and gone
    Status flushed = flush_one(*inode);
    if (flushed.ok()) continue;
    mark(*inode);
    if (first_error.ok()) first_error = flushed;
  }
  return first_error;
}

// The mark goes first: whoever changes the inode from now on sets it again after the change, so
// either the change is seen here or the mark survives.
Status Flusher::flush_one(Inode& inode) {
  inode.touched = false;
  FS_TRY(commit_item(inode));
  FileData* data = inode.data();
  if (data == nullptr) return {};
  if (data->has_dirty_pages() && inodes_.referenced(inode)) {
    mark(inode);
    return {};
  }
  // Without dirty pages this waits for those in flight: the inode may go out of memory after it.
  return data->write_back();
}

Status Flusher::commit_item(Inode& inode) {
  ItemUpdate update(store_, {&inode});
  if (!update.dirty(inode) || update.erased(inode)) return {};
  update.edit(inode);
  return update.commit(false);
}

}  // namespace stablefs
