// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/camera.h"

#include <fmt/format.h>

#include "integrity/tuple.h"
#include "sim/watch_device.h"

namespace stablefs::sim {
namespace {

constexpr CrashPolicy kPolicies[] = {CrashPolicy::keep_all, CrashPolicy::drop_all,
                                     CrashPolicy::subset, CrashPolicy::torn};

const char* to_string(CrashPolicy policy) {
  constexpr const char* kNames[] = {"keeping all", "dropping all", "keeping some", "tearing"};
  return kNames[static_cast<size_t>(policy)];
}

}  // namespace

std::string Shot::text() const {
  return fmt::format("crash at device event {}, time {} to {}, {} of what was not flushed", event,
                     cut.before, cut.after, to_string(policy));
}

uint64_t digest_of(const MemoryImage& image) {
  uint64_t digest = 0;
  image.for_each_populated({Lba(0), image.block_count()}, [&](Lba lba) {
    const auto page = image.page(lba);
    digest += mix(lba.value, crc32c(0, *page));
  });
  return digest;
}

void Camera::on_event() {
  ++events_;
  if (shots_.size() >= options_.shots_max || !prng_.chance(options_.one_in)) return;
  if (!options_.every_policy) {
    take(kPolicies[prng_.below(std::size(kPolicies))]);
    return;
  }
  for (const CrashPolicy policy : kPolicies) take(policy);
}

void Camera::on_promise() {
  if (shots_.size() < 2 * options_.shots_max) take(CrashPolicy::drop_all);
}

void Camera::take(CrashPolicy policy) {
  // Taking the image gives others a chance to run: what they do meanwhile may be in it or not.
  const uint64_t event = events_;
  const uint64_t before = time_ + 1;
  MemoryImage image = device_.crash_image(policy, prng_);
  shots_.push_back({std::move(image), {before, time_ + 1}, event, policy});
}

}  // namespace stablefs::sim
