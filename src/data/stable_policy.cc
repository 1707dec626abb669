// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/stable_policy.h"

#include <algorithm>
#include <array>

#include "base/ids.h"

namespace stablefs {
namespace {

constexpr std::array<const char*, 4> kNames = {"auto", "wait", "copy", "off"};
// A sample moves an average by a sixteenth.
constexpr uint64_t kAverageWeight = 16;

// Memory gets dearer as it runs out: a copy for the last page is worth any wait.
uint64_t price_of_copy(const RewriteFacts& facts) {
  const uint64_t left_bytes = facts.shadow_limit_bytes - facts.shadow_bytes;
  const double scarcity =
      static_cast<double>(facts.shadow_limit_bytes) / static_cast<double>(left_bytes);
  return static_cast<uint64_t>(static_cast<double>(facts.copy_ns) * scarcity);
}

RewriteAction for_page_in_flight(StablePolicy policy, const RewriteFacts& facts) {
  if (policy == StablePolicy::off) return RewriteAction::overwrite;
  if (policy == StablePolicy::wait) return RewriteAction::wait;
  // The second version has its memory: rewriting it takes no more.
  if (facts.shadowed) {
    if (facts.whole) return RewriteAction::swap;
    return facts.sealed ? RewriteAction::copy : RewriteAction::in_place;
  }
  if (facts.shadow_bytes + kBlockSize > facts.shadow_limit_bytes) return RewriteAction::wait;
  if (facts.whole) return RewriteAction::swap;
  const bool wait = policy == StablePolicy::automatic && facts.landing_ns < price_of_copy(facts);
  return wait ? RewriteAction::wait : RewriteAction::copy;
}

}  // namespace

const char* to_string(StablePolicy policy) {
  return kNames[static_cast<size_t>(policy)];
}

std::optional<StablePolicy> parse_stable_policy(std::string_view word) {
  const auto at =
      std::ranges::find(kNames, word, [](const char* name) { return std::string_view(name); });
  if (at == kNames.end()) return std::nullopt;
  return static_cast<StablePolicy>(at - kNames.begin());
}

RewriteAction decide_rewrite(StablePolicy policy, const RewriteFacts& facts) {
  if (facts.in_flight) return for_page_in_flight(policy, facts);
  if (facts.whole) return RewriteAction::swap;
  return facts.sealed ? RewriteAction::copy : RewriteAction::in_place;
}

uint64_t StableControl::landing_ns(uint64_t elapsed_ns) const {
  const uint64_t flight_ns = this->flight_ns();
  // Late already: it may take as long again as it is late.
  return elapsed_ns < flight_ns ? flight_ns - elapsed_ns : elapsed_ns - flight_ns;
}

void StableControl::average(std::atomic<uint64_t>& value, uint64_t sample) {
  const uint64_t before = value.load(std::memory_order_relaxed);
  const uint64_t after =
      before == 0 ? sample : before - before / kAverageWeight + sample / kAverageWeight;
  value.store(after, std::memory_order_relaxed);
}

}  // namespace stablefs
