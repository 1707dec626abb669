// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "device/memory_image.h"

namespace stablefs::sim {

// Freshly made filesystems to start from.
class Environment {
 public:
  Environment();
  // `tight`: only few blocks are free, so that freed ones are soon used again.
  const MemoryImage& image(bool tight) const { return tight ? tight_ : roomy_; }

 private:
  MemoryImage roomy_, tight_;
};

}  // namespace stablefs::sim
