// SPDX-License-Identifier: GPL-2.0-or-later
// From a recorded I/O log to the states a crash could have left at any of its moments.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "device/io_log.h"
#include "device/memory_image.h"
#include "device/volatile_cache.h"

namespace stablefs {

// Follows a log event by event. A flush covers what had completed before it was submitted, a FUA
// write is durable when it has completed, whole and without error.
class IoReplay {
 public:
  explicit IoReplay(MemoryImage initial) : cache_(std::move(initial)) {}

  void step(const IoEvent& event);

  const VolatileCache& cache() const { return cache_; }
  // What a crash now may lose: the unflushed in the order they completed, then those in flight in
  // the order they were submitted. Valid until the next step.
  std::vector<const VolatileCache::Event*> losable() const;
  // The cache with the writes in flight as its last events.
  VolatileCache crash_here() &&;

 private:
  struct InFlight {
    VolatileCache::Event event;  // flush: up to which sequence
    bool fua = false;
  };
  void complete(const IoEvent& event);

  VolatileCache cache_;
  std::map<uint64_t, InFlight> in_flight_;  // by request
};

// The device after the first `events` events of the log: its durable contents, and as unflushed
// events every write a crash at that moment may lose. The recording began on `initial`.
VolatileCache replay_io_log(const IoLog& log, size_t events, MemoryImage initial);

}  // namespace stablefs
