// SPDX-License-Identifier: GPL-2.0-or-later
// Takes pictures of a device: what a power failure at this moment could leave of it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/prng.h"
#include "device/memory_device.h"
#include "sim/oracle.h"

namespace stablefs::sim {

struct Shot {
  MemoryImage image;
  Cut cut;
  uint64_t event = 0;  // number of the device event
  CrashPolicy policy = CrashPolicy::drop_all;

  std::string text() const;
};

// The same bytes, the same number; with overwhelming probability.
uint64_t digest_of(const MemoryImage& image);

struct CameraOptions {
  uint64_t seed = 1;
  uint64_t one_in = 8;  // device events
  uint64_t shots_max = 40;
  bool every_policy = false;
};

class Camera {
 public:
  // `time` is the counter that calls and replies move.
  Camera(const MemoryDevice& device, const uint64_t& time, const CameraOptions& options)
      : device_(device), time_(time), options_(options), prng_(options.seed) {}

  void on_event();    // a device event: perhaps
  void on_promise();  // something has just been promised to be durable: certainly, at the worst
  void take(CrashPolicy policy);

  std::vector<Shot>& shots() { return shots_; }

 private:
  const MemoryDevice& device_;
  const uint64_t& time_;
  const CameraOptions options_;
  Prng prng_;
  uint64_t events_ = 0;
  std::vector<Shot> shots_;
};

}  // namespace stablefs::sim
