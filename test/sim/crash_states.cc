// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/crash_states.h"

#include <vector>

namespace stablefs::sim {
namespace {

constexpr size_t kSubsetWritesMax = 5;

using Fates = std::vector<WriteFate>;

std::vector<Fates> whole_writes(size_t count) {
  std::vector<Fates> all;
  if (count <= kSubsetWritesMax) {
    for (size_t subset = 0; subset < size_t{1} << count; ++subset) {
      Fates fates(count, WriteFate::dropped);
      for (size_t i = 0; i < count; ++i) {
        if ((subset >> i & 1) != 0) fates[i] = WriteFate::kept;
      }
      all.push_back(std::move(fates));
    }
    return all;
  }
  for (size_t length = 0; length <= count; ++length) {
    Fates prefix(count, WriteFate::dropped);
    std::fill_n(prefix.begin(), length, WriteFate::kept);
    all.push_back(std::move(prefix));
  }
  for (size_t i = 0; i < count; ++i) {
    Fates missing(count, WriteFate::kept);
    missing[i] = WriteFate::dropped;
    all.push_back(std::move(missing));
    Fates alone(count, WriteFate::dropped);
    alone[i] = WriteFate::kept;
    all.push_back(std::move(alone));
  }
  return all;
}

std::vector<Fates> torn_writes(size_t count) {
  std::vector<Fates> all;
  for (size_t i = 0; i < count; ++i) {
    for (const WriteFate others : {WriteFate::kept, WriteFate::dropped}) {
      Fates fates(count, others);
      fates[i] = WriteFate::torn;
      all.push_back(std::move(fates));
      if (count == 1) break;
    }
  }
  return all;
}

}  // namespace

void for_each_crash_state(const VolatileCache& cache, Prng& tear,
                          const std::function<void(MemoryImage)>& visit) {
  const size_t count = cache.events().size();
  for (const Fates& fates : whole_writes(count)) visit(cache.crash_image(fates, tear));
  for (const Fates& fates : torn_writes(count)) visit(cache.crash_image(fates, tear));
}

}  // namespace stablefs::sim
