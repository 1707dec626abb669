// SPDX-License-Identifier: GPL-2.0-or-later
// The passive parts of the data layer: interval sets, page states, the page map, ordered extents.
#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "base/prng.h"
#include "data/interval_set.h"
#include "data/ordered_extent.h"
#include "data/page_map.h"
#include "death.h"

using namespace stablefs;

TEST_CASE("an interval set agrees with a set of numbers", "[data]") {
  Prng prng(GENERATE(range(1, 21)));
  IntervalSet intervals;
  std::set<uint64_t> model;
  for (int round = 0; round < 2000; ++round) {
    const uint64_t first = prng.below(200), end = first + 1 + prng.below(20);
    if (prng.chance(2)) {
      intervals.insert(first, end);
      for (uint64_t n = first; n < end; ++n) model.insert(n);
    } else {
      intervals.erase(first, end);
      for (uint64_t n = first; n < end; ++n) model.erase(n);
    }
    const uint64_t probe = prng.below(230);
    REQUIRE(intervals.contains(probe) == model.contains(probe));
    REQUIRE(intervals.empty() == model.empty());
    const auto expected = [&](uint64_t from) -> std::optional<uint64_t> {
      const auto at = model.lower_bound(from);
      if (at == model.end()) return std::nullopt;
      return *at;
    };
    REQUIRE(intervals.lowest() == expected(0));
    REQUIRE(intervals.lowest_from(probe) == expected(probe));
    const auto low = expected(0);
    const bool inside = low && *low >= first && *low < end;
    REQUIRE(intervals.lowest_outside(first, end) == (inside ? expected(end) : low));
    size_t runs = 0;
    for (uint64_t n : model) runs += !model.contains(n - 1) || n == 0;
    REQUIRE(intervals.interval_count() == runs);
  }
}

namespace {

using S = PageState;
using E = PageEvent;

// Written down a second time, event by event, from the rules rather than from the table.
std::optional<S> expected_state(S state, E event) {
  const bool in_flight = state == S::writeback || state == S::writeback_dirty;
  switch (event) {
    case E::read_start:
      return state == S::absent ? std::optional(S::reading) : std::nullopt;
    case E::read_done:
      return state == S::reading ? std::optional(S::clean) : std::nullopt;
    case E::read_failed:
      return state == S::reading ? std::optional(S::absent) : std::nullopt;
    case E::write_part:
      if (state == S::absent || state == S::reading) return std::nullopt;
      return in_flight ? S::writeback_dirty : S::dirty;
    case E::write_whole:
      return in_flight ? S::writeback_dirty : S::dirty;
    case E::submit:
      return state == S::dirty ? std::optional(S::writeback) : std::nullopt;
    case E::write_done:
      if (!in_flight) return std::nullopt;
      return state == S::writeback ? S::clean : S::dirty;
    case E::write_failed:
      if (!in_flight) return std::nullopt;
      return state == S::writeback ? S::write_failed : S::dirty;
    case E::remove:
      if (state == S::writeback) return std::nullopt;
      return state == S::writeback_dirty ? S::writeback : S::absent;
    case E::direct_over:
      if (in_flight || state == S::reading) return std::nullopt;
      return S::absent;
    case E::drop:
      return state == S::clean ? std::optional(S::absent) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

TEST_CASE("every page state takes every event as the rules say", "[data]") {
  for (size_t state = 0; state < kPageStates; ++state) {
    for (size_t event = 0; event < kPageEvents; ++event) {
      const auto from = static_cast<S>(state);
      const auto what = static_cast<E>(event);
      INFO(to_string(from) << " event " << event);
      const auto to = expected_state(from, what);
      REQUIRE(page_event_legal(from, what) == to.has_value());
      if (to) CHECK(next_page_state(from, what) == *to);
    }
  }
}

TEST_CASE("an illegal page event stops the process", "[data]") {
  CHECK_FALSE(output_of_death([] {
                PageMap pages;
                pages.apply(1, E::submit);
              }).empty());
}

TEST_CASE("the page map agrees with a map of states", "[data]") {
  Prng prng(GENERATE(range(1, 11)));
  PageMap pages;
  std::map<uint64_t, S> model;
  for (int round = 0; round < 5000; ++round) {
    const uint64_t block = prng.below(3) == 0 ? prng.below(100) : 1000000 + prng.below(40);
    const auto event = static_cast<E>(prng.below(kPageEvents));
    const S before = model.contains(block) ? model[block] : S::absent;
    if (page_event_legal(before, event)) {
      const S after = next_page_state(before, event);
      Page* page = pages.apply(block, event);
      REQUIRE((page == nullptr) == (after == S::absent));
      model.erase(block);
      if (after != S::absent) model[block] = after;
    }
    REQUIRE(pages.empty() == model.empty());
    const uint64_t from = prng.chance(2) ? prng.below(120) : 1000000 + prng.below(50);
    for (const PageStates states : {kUncommittedStates, kPresentStates, PageStates{S::clean}}) {
      std::optional<uint64_t> expected;
      for (auto at = model.lower_bound(from); at != model.end() && !expected; ++at) {
        if (states.has(at->second)) expected = at->first;
      }
      REQUIRE(pages.next(from, states) == expected);
    }
    size_t dirty = 0;
    for (const auto& [number, state] : model) {
      REQUIRE(pages.state(number) == state);
      dirty += state == S::dirty;
    }
    REQUIRE(pages.count(S::dirty) == dirty);
  }
}

TEST_CASE("bytes left of an ordered extent reach zero exactly once", "[data]") {
  OrderedExtent extent(10, 4);
  CHECK(extent.bytes_left() == 4 * kBlockSize);
  extent.submit();
  CHECK_FALSE(extent.arrived(kBlockSize));
  CHECK_FALSE(extent.arrived(0));
  CHECK(extent.arrived(3 * kBlockSize));
  CHECK(extent.state() == OrderedState::completed);
  CHECK_FALSE(output_of_death([extent]() mutable { extent.arrived(0); }).empty());
  extent.commit();
  CHECK(extent.state() == OrderedState::committed);
}

TEST_CASE("more bytes than an ordered extent has stop the process", "[data]") {
  CHECK_FALSE(output_of_death([] {
                OrderedExtent extent(0, 1);
                extent.submit();
                extent.arrived(kBlockSize + 1);
              }).empty());
}

TEST_CASE("an ordered extent is split before submission only, and nothing is lost", "[data]") {
  OrderedExtent head(100, 10);
  const OrderedExtent rest = head.split(3);
  CHECK(head.first_block() == 100);
  CHECK(head.end_block() == 103);
  CHECK(head.bytes_left() == 3 * kBlockSize);
  CHECK(rest.first_block() == 103);
  CHECK(rest.end_block() == 110);
  CHECK(rest.bytes_left() == 7 * kBlockSize);
  CHECK(rest.state() == OrderedState::reserved);
  CHECK(head.overlaps(102, 103));
  CHECK_FALSE(head.overlaps(103, 110));
  head.submit();
  CHECK_FALSE(output_of_death([head]() mutable { (void)head.split(1); }).empty());
}

TEST_CASE("an ordered extent goes only where its table allows", "[data]") {
  const auto reach = [](OrderedState state) {
    OrderedExtent extent(0, 1);
    if (state == OrderedState::reserved) return extent;
    if (state == OrderedState::failed) {
      extent.fail();
      return extent;
    }
    extent.submit();
    if (state == OrderedState::submitted) return extent;
    extent.arrived(kBlockSize);
    if (state == OrderedState::committed) extent.commit();
    return extent;
  };
  for (size_t from = 0; from < kOrderedStates; ++from) {
    const auto state = static_cast<OrderedState>(from);
    INFO(to_string(state));
    const bool may_fail = state != OrderedState::committed && state != OrderedState::failed;
    CHECK(output_of_death([&] { reach(state).fail(); }).empty() == may_fail);
    const bool may_commit = state == OrderedState::completed;
    CHECK(output_of_death([&] { reach(state).commit(); }).empty() == may_commit);
    const bool may_submit = state == OrderedState::reserved;
    CHECK(output_of_death([&] { reach(state).submit(); }).empty() == may_submit);
  }
}

TEST_CASE("memory under I/O is given to no writer", "[data]") {
  CHECK_FALSE(output_of_death([] {
                BufferSlice buffer(4096);
                buffer.seal();
                (void)buffer.writable();
              }).empty());
}
