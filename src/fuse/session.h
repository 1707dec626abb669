// SPDX-License-Identifier: GPL-2.0-or-later
// A FUSE connection on a /dev/fuse descriptor of our own. libfuse parses requests and builds
// replies; receiving, threads, and what the library does not know (SYNCFS, STATX,
// COPY_FILE_RANGE_64, INIT flags) are ours.
//
//   mounted     = our own descriptor has answered INIT; mount(2) returning 0 proves nothing, since
//   a
//                 second mount of a device joins the first one's superblock.
//   unmounted   = DESTROY is served, after every other request, by `Adapter::destroy()`; the kernel
//                 lets umount(2) return when it is answered. Without DESTROY (plain fuse, abort)
//                 the descriptor reports the end, and the owner makes things durable then.
// Never splice: a spliced payload would still be the writer's page-cache page.
#pragma once

#include <fuse_lowlevel.h>

#include <atomic>
#include <memory>

#include "base/log.h"
#include "base/result.h"
#include "base/sync.h"
#include "fuse/adapter.h"
#include "fuse/payload_pool.h"
#include "fuse/worker_pool.h"

namespace stablefs {

class Session {
 public:
  enum class End : uint8_t { destroyed, disconnected };

  // `fuse_descriptor` (open on /dev/fuse, mounted or about to be) is the session's from now on.
  static Result<std::unique_ptr<Session>> create(Adapter& adapter, int fuse_descriptor,
                                                 const WorkerPoolOptions& workers, Logger& logger);
  ~Session();

  // After mount(2): starts serving and returns when INIT was answered on our own descriptor.
  Status start(uint32_t wait_ms_max) FS_EXCLUDES(mutex_);
  // Returns when the connection is over and nothing is being served any more.
  End wait() FS_EXCLUDES(mutex_);
  // Readable from the end of the connection on (for poll).
  int ended_descriptor() const { return ended_descriptor_; }

 private:
  class Worker;

  Session(Adapter& adapter, int fuse_descriptor, const WorkerPoolOptions& workers, Logger& logger);
  Status create_library_session();
  RequestWorker::Received receive(std::span<std::byte> memory, size_t& length);
  void serve(Request& request, std::byte* message, size_t length);
  void copy_file_range(const Request& request);
  void pass_to_library(std::byte* message, size_t length);
  void pass_setxattr(Request& request, std::byte* message, size_t length);
  void reply(uint64_t unique, int error, std::span<const std::byte> body = {});
  void prune(Ino ino);
  void set_initialised() FS_EXCLUDES(mutex_);
  void end() FS_EXCLUDES(mutex_);

  Adapter& adapter_;
  Logger& logger_;
  const int fuse_descriptor_;
  int ended_descriptor_ = -1;
  fuse_session* library_ = nullptr;
  PayloadPool pool_;
  WorkerPool workers_;
  std::atomic<bool> destroyed_{false};
  std::atomic<bool> setxattr_extended_{false};

  Mutex mutex_{LockRank::session, "session"};
  CondVar changed_;
  bool initialised_ FS_GUARDED_BY(mutex_) = false;
  bool over_ FS_GUARDED_BY(mutex_) = false;
};

}  // namespace stablefs
