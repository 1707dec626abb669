// SPDX-License-Identifier: GPL-2.0-or-later
// The real device: asynchronous requests through an io_uring, synchronous ones on the calling
// thread (a hand-off would cost more than the system call). Where the host does not allow io_uring,
// a few threads take its place. Orders nothing.
#pragma once

#include <atomic>
#include <memory>

#include "base/log.h"
#include "device/open.h"
#include "device/request_workers.h"
#include "device/source_file.h"
#include "device/uring_queue.h"

namespace stablefs {

class UringDevice final : public SourceDevice {
 public:
  UringDevice(SourceFile source, bool use_ring, Logger& logger);
  ~UringDevice() override;  // waits for all requests

  void submit(DeviceRequest& request) override;
  void submit_all(std::span<DeviceRequest* const> requests) override;
  Status run(DeviceRequest& request) override;
  void abort() override;

  uint64_t block_count() const override { return source_.block_count; }
  std::string name() const override { return source_.path; }
  bool read_only() const override { return source_.read_only; }
  bool supports_discard() const override { return source_.discard; }
  bool is_block_device() const override { return source_.block_device; }
  std::string path() const override { return source_.path; }
  int descriptor() const override { return source_.io.get(); }
  void release_exclusive() override { source_.claim.reset(); }

 private:
  bool accept(DeviceRequest& request);
  void execute_and_finish(DeviceRequest& request);

  SourceFile source_;
  std::atomic<bool> aborted_{false};
  std::unique_ptr<UringQueue> ring_;  // null: the workers do everything
  std::unique_ptr<RequestWorkers> workers_;
};

}  // namespace stablefs
