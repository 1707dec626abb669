// SPDX-License-Identifier: GPL-2.0-or-later
// The emulated protection-information target: catches buffers that change while they are written.
//
// A write that carries tuples is checked against them when the "DMA" happens (after an injectable
// delay) and again when the device below has completed it; a write without tuples is checked by a
// checksum of its memory at both ends. A mismatch completes the write with device_protection. Reads
// and the rest pass, and so do writes that are not sampled: they cost one random number. Lock-free;
// the function before the transfer runs on the submitter's thread.
#pragma once

#include <atomic>
#include <functional>

#include "device/block_device.h"

namespace stablefs {

struct VerifyingOptions {
  uint32_t sample_one_in = 1;  // check every Nth write; 0: none
  // Runs between submit() and the first check: where a test rewrites the buffer, or sleeps.
  std::function<void(const DeviceRequest&)> before_dma{};
};

struct VerifyingCounters {
  std::atomic<uint64_t> checked{0};
  std::atomic<uint64_t> mismatches{0};
};

class VerifyingDevice final : public BlockDevice {
 public:
  explicit VerifyingDevice(BlockDevice& inner, VerifyingOptions options = {});

  void submit(DeviceRequest& request) override;
  Status run(DeviceRequest& request) override {
    return request.op == DeviceOp::write ? BlockDevice::run(request) : inner_.run(request);
  }
  uint64_t block_count() const override { return inner_.block_count(); }
  std::string name() const override { return inner_.name(); }
  bool read_only() const override { return inner_.read_only(); }
  bool supports_discard() const override { return inner_.supports_discard(); }
  void abort() override { inner_.abort(); }
  const DeviceCounters& counters() const override { return inner_.counters(); }
  const VerifyingCounters& verifying_counters() const { return verifying_counters_; }

 private:
  bool is_sampled();
  void submit_checked(DeviceRequest& request);
  Error report(Error error);

  BlockDevice& inner_;
  const VerifyingOptions options_;
  VerifyingCounters verifying_counters_;
  std::atomic<uint64_t> writes_seen_{0};
};

}  // namespace stablefs
