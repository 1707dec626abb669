// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/space_map.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/assert.h"

namespace stablefs {
namespace {

constexpr uint32_t kSlotBit = 1u << 31;
constexpr uint32_t kGroupsTried = 8;  // bound on groups searched for a long run
constexpr uint32_t kRunsTried = 512;  // and on runs looked at in each: free space may be in crumbs

bool test(const BitmapBlock& bits, uint32_t i) {
  return bits[i / 64] >> (i % 64) & 1;
}

// Applies `function(word, mask)` to every word of [from, from + length).
template <class Function>
void for_each_word(uint32_t from, uint32_t length, Function function) {
  while (length != 0) {
    uint32_t shift = from % 64;
    uint32_t bits = std::min(64 - shift, length);
    uint64_t mask = (bits == 64 ? ~0ull : (1ull << bits) - 1) << shift;
    function(from / 64, mask);
    from += bits;
    length -= bits;
  }
}

bool all_set(const BitmapBlock& bits, uint32_t from, uint32_t length) {
  bool all = true;
  for_each_word(from, length, [&](uint32_t w, uint64_t mask) { all &= (bits[w] & mask) == mask; });
  return all;
}
bool all_clear(const BitmapBlock& bits, uint32_t from, uint32_t length) {
  bool all = true;
  for_each_word(from, length, [&](uint32_t w, uint64_t mask) { all &= (bits[w] & mask) == 0; });
  return all;
}
void set(BitmapBlock& bits, uint32_t from, uint32_t length) {
  for_each_word(from, length, [&](uint32_t w, uint64_t mask) { bits[w] |= mask; });
}
void clear(BitmapBlock& bits, uint32_t from, uint32_t length) {
  for_each_word(from, length, [&](uint32_t w, uint64_t mask) { bits[w] &= ~mask; });
}

}  // namespace

void SpaceMap::load_table(std::vector<DiskSpaceEntry> table) {
  FS_ASSERT(groups_.empty());
  groups_ = std::vector<Group>(table.size());
  table_ = std::move(table);
  for (uint32_t g = 0; g < groups_.size(); ++g) {
    groups_[g].free_committed = table_[g].free_and_slot & ~kSlotBit;
    groups_[g].available = groups_[g].free_committed;
    available_ += groups_[g].available;
    uncommitted_ += groups_[g].free_committed;
  }
  frozen_free_blocks_ = uncommitted_;
}

uint32_t SpaceMap::group_blocks(uint32_t group) const {
  return static_cast<uint32_t>(std::min(kGroupBlocks, block_count_ - group * kGroupBlocks));
}

void SpaceMap::install(uint32_t group, std::span<const std::byte> bitmap) {
  FS_ASSERT(bitmap.size() == kBlockSize);
  if (loaded(group)) return;
  auto bits = std::make_unique<BitmapBlock>(kGroupBlocks / 64);
  for (size_t w = 0; w < bits->size(); ++w) {
    (*bits)[w] = reinterpret_cast<const le64*>(bitmap.data())[w];
  }
  groups_[group].committed = std::move(bits);
  groups_[group].busy = std::make_unique<BitmapBlock>(kGroupBlocks / 64);
}

std::optional<uint32_t> SpaceMap::missing_group(BlockRange range) const {
  if (range.length_blocks == 0 || range.end().value > block_count_) return std::nullopt;
  for (uint32_t g = group_of(range.start); g <= group_of(range.end() - 1); ++g) {
    if (!loaded(g)) return g;
  }
  return std::nullopt;
}

template <class Function>
bool SpaceMap::for_each_part(BlockRange range, Function function) {
  if (range.end().value > block_count_ || range.end() < range.start) return false;
  while (range.length_blocks != 0) {
    uint32_t group = group_of(range.start);
    uint32_t from = static_cast<uint32_t>(range.start.value % kGroupBlocks);
    uint32_t length =
        static_cast<uint32_t>(std::min<uint64_t>(range.length_blocks, kGroupBlocks - from));
    FS_ASSERT(loaded(group));
    if (!function(groups_[group], from, length)) return false;
    range = {range.start + length, range.length_blocks - length};
  }
  return true;
}

uint32_t SpaceMap::skip_used(const Group& group, uint32_t blocks, uint32_t at) {
  while (at < blocks) {
    const uint64_t used = ((*group.committed)[at / 64] | (*group.busy)[at / 64]) >> (at % 64);
    if ((used & 1) == 0) break;
    at += std::min<uint32_t>(std::countr_one(used), 64 - at % 64);
  }
  return at;
}

SpaceMap::Run SpaceMap::free_run(const Group& group, uint32_t blocks, uint32_t at, uint64_t want) {
  const uint32_t start = at;
  while (at < blocks && at - start < want) {
    const uint64_t word = ((*group.committed)[at / 64] | (*group.busy)[at / 64]) >> (at % 64);
    const uint32_t clear_bits = std::min<uint32_t>(std::countr_zero(word), 64 - at % 64);
    if (clear_bits == 0) break;
    at += clear_bits;
  }
  return {start, static_cast<uint32_t>(std::min<uint64_t>(std::min(at, blocks) - start, want))};
}

// First run of at least `want` free blocks at or behind `from`, else the longest of the next ones.
SpaceMap::Run SpaceMap::find_run(const Group& group, uint32_t blocks, uint32_t from,
                                 uint64_t want) const {
  Run best;
  uint32_t at = skip_used(group, blocks, from);
  for (uint32_t tried = 0; at < blocks && tried < kRunsTried; ++tried) {
    const Run run = free_run(group, blocks, at, want);
    if (run.length > best.length) best = run;
    if (best.length == want) break;
    at = skip_used(group, blocks, run.start + run.length);
  }
  return best;
}

std::optional<BlockRange> SpaceMap::take_free(BlockRange range, uint64_t least_blocks) {
  const uint32_t g = group_of(range.start);
  FS_ASSERT(loaded(g));
  Group& group = groups_[g];
  const uint64_t base = uint64_t{g} * kGroupBlocks;
  const auto end =
      static_cast<uint32_t>(std::min<uint64_t>(range.end().value - base, group_blocks(g)));
  uint32_t at = skip_used(group, end, static_cast<uint32_t>(range.start.value - base));
  while (at < end) {
    const Run run = free_run(group, end, at, kGroupBlocks);
    if (run.length >= least_blocks) {
      const Lba cursor_before = cursor_;
      take(g, run);
      cursor_ = cursor_before;
      return BlockRange{Lba(base + run.start), run.length};
    }
    at = skip_used(group, end, run.start + run.length);
  }
  return std::nullopt;
}

void SpaceMap::take(uint32_t group, Run run) {
  set(*groups_[group].busy, run.start, run.length);
  groups_[group].available -= run.length;
  available_ -= run.length;
  cursor_ = Lba(group * kGroupBlocks + run.start + run.length);
}

std::optional<BlockRange> SpaceMap::allocate(uint64_t want, Lba goal) {
  if (goal.value == 0 || goal.value >= block_count_) goal = cursor_;
  if (goal.value >= block_count_) goal = Lba(0);
  uint32_t first = group_of(goal);
  Run best;
  uint32_t best_group = 0, tried = 0;
  for (uint32_t i = 0; i <= group_count(); ++i) {
    uint32_t g = (first + i) % group_count();
    const Group& group = groups_[g];
    if (!loaded(g) || group.available == 0) continue;
    // The goal's group is searched from the goal on first and, as the last one, from its start.
    uint32_t from = i == 0 ? static_cast<uint32_t>(goal.value % kGroupBlocks) : 0;
    Run run = find_run(group, group_blocks(g), from, want);
    bool at_goal = i == 0 && run.length != 0 && run.start == from;
    if (run.length > best.length) {
      best = run;
      best_group = g;
    }
    if (best.length == want || (at_goal && run.length * 4 >= want)) break;
    if (++tried >= kGroupsTried && best.length != 0) break;
  }
  if (best.length == 0) return std::nullopt;
  take(best_group, best);
  return BlockRange{Lba(best_group * kGroupBlocks + best.start), best.length};
}

std::optional<BlockRange> SpaceMap::allocate_apart(Lba from) {
  Lba cursor_before = cursor_;
  auto range = allocate(1, Lba((from.value + block_count_ / 2) % block_count_));
  cursor_ = cursor_before;
  return range;
}

std::optional<uint32_t> SpaceMap::group_worth_loading(Lba goal) const {
  uint32_t first = goal.value < block_count_ ? group_of(goal) : 0;
  for (uint32_t i = 0; i < group_count(); ++i) {
    uint32_t g = (first + i) % group_count();
    if (!loaded(g) && groups_[g].available != 0) return g;
  }
  return std::nullopt;
}

uint64_t SpaceMap::loaded_available() const {
  uint64_t sum = 0;
  for (const Group& group : groups_) {
    if (group.committed) sum += group.available;
  }
  return sum;
}

void SpaceMap::give_back(BlockRange range) {
  bool ok = for_each_part(range, [&](Group& group, uint32_t from, uint32_t length) {
    FS_ASSERT(all_set(*group.busy, from, length));
    FS_ASSERT(all_clear(*group.committed, from, length));
    clear(*group.busy, from, length);
    group.available += length;
    available_ += length;
    return true;
  });
  FS_ASSERT(ok);
}

bool SpaceMap::commit_allocation(BlockRange range, bool was_busy) {
  bool fits = for_each_part(range, [&](Group& group, uint32_t from, uint32_t length) {
    return all_clear(*group.committed, from, length) &&
           (was_busy ? all_set(*group.busy, from, length) : all_clear(*group.busy, from, length));
  });
  if (!fits) return false;
  return for_each_part(range, [&](Group& group, uint32_t from, uint32_t length) {
    set(*group.committed, from, length);
    if (was_busy) {
      clear(*group.busy, from, length);
    } else {
      group.available -= length;
      available_ -= length;
    }
    group.free_committed -= length;
    uncommitted_ -= length;
    group.changed = true;
    return true;
  });
}

bool SpaceMap::commit_free(BlockRange range) {
  bool fits = for_each_part(range, [&](Group& group, uint32_t from, uint32_t length) {
    return all_set(*group.committed, from, length);
  });
  if (!fits) return false;
  return for_each_part(range, [&](Group& group, uint32_t from, uint32_t length) {
    clear(*group.committed, from, length);
    set(*group.busy, from, length);
    group.free_committed += length;
    uncommitted_ += length;
    pending_free_ += length;
    group.changed = true;
    return true;
  });
}

void SpaceMap::release_freed(BlockRange range) {
  pending_free_ -= range.length_blocks;
  give_back(range);
}

std::vector<SpaceMap::FrozenBitmap> SpaceMap::freeze() {
  std::vector<FrozenBitmap> frozen;
  for (uint32_t g = 0; g < group_count(); ++g) {
    Group& group = groups_[g];
    if (!group.changed) continue;
    group.changed = false;
    uint32_t slot = (table_[g].free_and_slot & kSlotBit) ? 0 : 1;
    table_[g].free_and_slot = group.free_committed | (slot ? kSlotBit : 0);
    frozen.push_back({g, slot, *group.committed, group.free_committed});
  }
  frozen_free_blocks_ = uncommitted_;
  return frozen;
}

bool SpaceMap::is_committed(Lba lba) const {
  uint32_t group = group_of(lba);
  FS_ASSERT(loaded(group));
  return test(*groups_[group].committed, static_cast<uint32_t>(lba.value % kGroupBlocks));
}

}  // namespace stablefs
