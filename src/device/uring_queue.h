// SPDX-License-Identifier: GPL-2.0-or-later
// Reads, writes and flushes of one descriptor through an io_uring owned by one thread.
//
// That thread alone submits and reaps: the kernel completes a request in the context of the task
// that submitted it, so a submitter stuck in another system call could hold up completions others
// wait for. What is queued while the thread is busy goes to the kernel in one batch. At most
// kSlots requests are in the kernel; the rest waits in the queue.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "device/block_device.h"
#include "device/source_file.h"

namespace stablefs {

class UringQueue {
 public:
  using Finish = std::function<void(DeviceRequest&, Status, uint64_t blocks_done)>;

  // `fd` stays the caller's. `finish` is called on the ring's thread, with no lock held.
  static Result<std::unique_ptr<UringQueue>> create(int fd, Finish finish);
  // Waits for all requests; after abort() a bounded time for those the kernel does not return.
  ~UringQueue();

  // False after abort(): the requests were not taken.
  bool submit(std::span<DeviceRequest* const> requests);
  // Requests in the kernel's hands are completed too; the kernel may touch their memory later.
  void abort();

 private:
  static constexpr uint32_t kSlots = 255;  // one more entry of the ring is for waking its thread

  struct Slot {
    DeviceRequest* request = nullptr;  // null: free, or completed by abort() and still in flight
    uint64_t bytes_done = 0;
    std::vector<iovec> rest;  // what a split or short request still has to transfer
    int retries = 0;
  };

  UringQueue(int fd, Finish finish);
  int wait_until_ready() FS_EXCLUDES(mutex_);
  void work();
  int set_up_ring();
  bool take_work() FS_EXCLUDES(mutex_);
  void give_up_all() FS_EXCLUDES(mutex_);
  void await_returns();
  void start(uint32_t index);
  void prepare_transfer(io_uring_sqe& sqe, Slot& slot);
  void arm_wake();
  void submit_and_wait();
  void reap();
  void handle(uint32_t index, int result);
  void finish_slot(uint32_t index, Status status);
  void wake() FS_REQUIRES(mutex_);

  const int fd_;
  const Finish finish_;
  Descriptor wake_fd_;

  Mutex mutex_{LockRank::device, "io_uring queue"};
  CondVar ready_changed_;
  bool ready_ FS_GUARDED_BY(mutex_) = false;
  int setup_errno_ FS_GUARDED_BY(mutex_) = 0;
  std::deque<DeviceRequest*> queue_ FS_GUARDED_BY(mutex_);
  bool sleeping_ FS_GUARDED_BY(mutex_) = false;  // the thread needs a wake-up to see the queue
  bool stopping_ FS_GUARDED_BY(mutex_) = false;
  bool aborted_ FS_GUARDED_BY(mutex_) = false;

  // Of the ring's thread only.
  io_uring ring_{};
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::vector<uint32_t> to_start_;
  uint64_t wake_value_ = 0;
  int failed_submits_ = 0;

  Thread thread_;
};

}  // namespace stablefs
