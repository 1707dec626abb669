// SPDX-License-Identifier: GPL-2.0-or-later
// A device that misbehaves by a plan: the same plan and seed over the same requests give the same
// faults. Rules are tried in order, the first that strikes decides. Held requests are always
// released: at the latest when nothing else is in flight, so that no waiter hangs on a delay.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "base/prng.h"
#include "base/sync.h"
#include "device/block_device.h"

namespace stablefs {

enum class FaultKind : uint8_t {
  fail,            // completes with the error of its operation; a write leaves the device unchanged
  fail_after,      // is carried out, then completes with an error all the same
  short_transfer,  // carries out a seeded part of it and says so
  delay,           // is held back until `parameter` further requests were submitted
  corrupt_read,    // one seeded bit of the data read is wrong
  misdirect_write,  // goes to another, seeded, address
  lose_write,       // write or discard: completes well without having been carried out
  lie_flush,        // a flush that flushes nothing and completes well
};

struct FaultRule {
  FaultKind kind = FaultKind::fail;
  std::optional<DeviceOp> op{};       // only this operation; else all the kind can strike
  std::optional<BlockRange> range{};  // only requests that touch it
  uint64_t blocks_min = 0;            // only requests of so many blocks or more
  uint64_t first = 1;                 // of the matching requests, from which one on, counted from 1
  uint64_t times = 1;                 // how many it strikes; UINT64_MAX: all
  uint64_t one_in = 1;                // strikes each of them with this chance
  uint64_t parameter = 0;
};

struct FaultPlan {
  uint64_t seed = 1;
  std::vector<FaultRule> rules;
};

class FaultyDevice final : public BlockDevice {
 public:
  FaultyDevice(BlockDevice& inner, FaultPlan plan);
  ~FaultyDevice() override;

  void submit(DeviceRequest& request) override;
  uint64_t block_count() const override { return inner_.block_count(); }
  std::string name() const override { return inner_.name(); }
  bool read_only() const override { return inner_.read_only(); }
  bool supports_discard() const override { return inner_.supports_discard(); }
  void abort() override;

  // Replaces the plan; counting starts anew.
  void set_plan(FaultPlan plan);
  uint64_t faults() const { return faults_; }      // how often a rule has struck
  uint64_t requests() const { return requests_; }  // how many were submitted: bounds a sweep

 private:
  struct RuleState {
    FaultRule rule;
    uint64_t matched = 0;
    uint64_t struck = 0;
  };
  struct Fault {
    FaultKind kind;
    uint64_t parameter;
    uint64_t random;
  };
  struct Held {
    DeviceRequest* request;
    uint64_t release_at;  // of requests_
  };

  std::optional<Fault> choose(const DeviceRequest& request) FS_REQUIRES(mutex_);
  std::vector<DeviceRequest*> take_due() FS_REQUIRES(mutex_);
  void carry_out(DeviceRequest& request, std::optional<Fault> fault);
  void forward(DeviceRequest& request, std::optional<Fault> fault);
  void completed(DeviceRequest& request, Status status, uint64_t blocks_done);

  BlockDevice& inner_;
  Mutex mutex_{LockRank::device, "fault plan"};
  Prng prng_ FS_GUARDED_BY(mutex_);
  std::vector<RuleState> rules_ FS_GUARDED_BY(mutex_);
  std::deque<Held> held_ FS_GUARDED_BY(mutex_);
  uint64_t in_flight_ FS_GUARDED_BY(mutex_) = 0;  // not held and not completed
  std::atomic<uint64_t> faults_{0};
  std::atomic<uint64_t> requests_{0};
};

}  // namespace stablefs
