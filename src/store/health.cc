// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/health.h"

#include <fmt/format.h>

#include <utility>

namespace stablefs {
namespace {

// What it means, and what a person should do.
const char* consequence(HealthState state) {
  switch (state) {
    case HealthState::losing:
      return "the filesystem goes on (errors=continue); fsync tells which files lost data. Check "
             "the device";
    case HealthState::read_only:
      return "the filesystem takes no more changes (errors=remount-ro); what it had accepted "
             "before is still written. Check the device, unmount, run fsck.stablefs, mount again";
    case HealthState::halted:
      return "the filesystem takes no more changes, and what was not synced before is lost at the "
             "latest when it is unmounted. Save what you need by reading it, check the device, "
             "unmount, run fsck.stablefs, mount again";
    case HealthState::aborted:
      return "the filesystem ends at once (errors=abort). Unmount, check the device, run "
             "fsck.stablefs, mount again";
    case HealthState::healthy:
    case HealthState::stopped:
      break;
  }
  return "";
}

}  // namespace

Health::Health(HealthOptions options) : options_(std::move(options)) {
  FS_ASSERT(options_.clock != nullptr);
  FS_ASSERT(options_.logger != nullptr);
}

Status Health::check(Activity activity) const {
  const HealthState state = this->state();
  if (health_allows(activity, state)) return {};
  if (activity == Activity::change && health_allows(Activity::serve, state)) {
    return ErrorCode::read_only_after_error;
  }
  return ErrorCode::shut_down;
}

void Health::report(HealthEvent event, const Error& error) {
  if (event == HealthEvent::data_lost) losses_.fetch_add(1, std::memory_order_acq_rel);
  HealthState to;
  {
    MutexLock lock(mutex_);
    const HealthState from = state_.load(std::memory_order_relaxed);
    to = next_health_state(options_.policy, event, from);
    if (to == from) return;
    if (event != HealthEvent::stop) cause_ = Cause{error, options_.clock->wall_time(), to};
    state_.store(to, std::memory_order_release);
  }
  if (event == HealthEvent::stop) return;
  options_.logger->write(LogLevel::error, fmt::format("{}: {}", error.message(), consequence(to)));
  if (to == HealthState::aborted && options_.on_abort) options_.on_abort();
}

std::optional<Health::Cause> Health::cause() const {
  MutexLock lock(mutex_);
  return cause_;
}

}  // namespace stablefs
