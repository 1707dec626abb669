// SPDX-License-Identifier: GPL-2.0-or-later
// What is found on a mounted filesystem, and on an image after recovery.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "device/memory_image.h"
#include "fs/file_system.h"
#include "sim/tree.h"

namespace stablefs::sim {

struct Observation {
  Tree tree;
  std::string wrong;  // empty: nothing
};
// Every name, link count, target and byte, but for the contents of the filler. Node ids are inode
// numbers.
Observation observe(FileSystem& fs);

// The first bytes of a file, at most that many; returns how many.
Result<uint64_t> read_file(FileSystem& fs, Ino ino, uint64_t length_bytes, std::string& content);

inline constexpr const char* kFillerName = "filler";

// Mounts crash images, also after further crashes while they are being recovered.
class Recovery {
 public:
  // `nest`: with crashes during some of the recoveries.
  Recovery(Clock& clock, uint64_t seed, bool nest) : clock_(clock), seed_(seed), nest_(nest) {}

  // Mounted, observed, unmounted and checked before and after. Crashes on the way are recovered
  // from too, and must show the same.
  Observation recover(const MemoryImage& image, int depth = 0);

  const std::set<uint64_t>& states() const { return states_; }  // digests of what was mounted
  uint64_t nested() const { return nested_; }

 private:
  std::string check(const MemoryImage& image, const char* when);

  Clock& clock_;
  const uint64_t seed_;
  const bool nest_;
  std::set<uint64_t> states_;
  uint64_t nested_ = 0;
};

}  // namespace stablefs::sim
