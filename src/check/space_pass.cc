// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/space_pass.h"

#include <fmt/format.h>

#include <bit>

#include "check/block_run.h"
#include "check/raw.h"
#include "format/superblock.h"

namespace stablefs {
namespace {

void report_bits(BlockRunReporter& runs, uint64_t first_lba, uint64_t bits) {
  for (; bits != 0; bits &= bits - 1) {
    runs.add(first_lba + static_cast<uint64_t>(std::countr_zero(bits)));
  }
}

}  // namespace

SpacePass::SpacePass(Store& store, const BlockSet& nodes, bool replayed, Reporter& reporter,
                     const Ledger& ledger)
    : store_(store),
      superblock_(store.superblock()),
      nodes_(nodes),
      replayed_(replayed),
      reporter_(reporter),
      ledger_(ledger),
      fixed_(superblock_.block_count),
      live_nodes_(superblock_.block_count) {
  for (const BlockRange& region : fixed_regions(superblock_)) {
    for (uint64_t i = 0; i < region.length_blocks; ++i) fixed_.insert(region.start + i);
  }
  if (replayed) collect_live_nodes();
}

void SpacePass::collect_live_nodes() {
  store_.visit_nodes([this](const Store::NodeView& node, const Status&) {
    for (Lba lba : node.address.lba) {
      if (lba.value != 0 && lba.value < superblock_.block_count) live_nodes_.insert(lba);
    }
  });
}

void SpacePass::run(bool complete) {
  reporter_.counts().total_blocks = superblock_.block_count;
  for (uint32_t group = 0; group < superblock_.group_count; ++group) {
    compare_group(group, complete);
    reporter_.progress("space", group + 1, superblock_.group_count);
  }
  if (!complete) return;
  compare_unwritten();
  compare_tuples();
  compare_references();
}

void SpacePass::compare_unwritten() {
  const uint64_t counted = store_.space_usage().unwritten_blocks;
  const uint64_t found = reporter_.counts().unwritten_blocks;
  if (counted == found) return;
  reporter_.add(ProblemId::unwritten_count, "superblock and journal",
                fmt::format("they say {}, the extents have {}", counted, found));
}

// A node that the replay replaced in memory stays allocated until the next checkpoint: accounted
// for, but no longer owed.
void SpacePass::compare_group(uint32_t group, bool complete) {
  const auto bitmap = store_.group_bitmap(group);
  if (!bitmap.ok()) return;  // the bitmap itself was reported
  BlockRunReporter not_allocated(reporter_, ProblemId::block_not_allocated, "");
  BlockRunReporter leaked(reporter_, ProblemId::block_leaked, "");
  const uint64_t base = uint64_t{group} * kGroupBlocks;
  const uint64_t blocks = blocks_of_group(superblock_, group);
  uint64_t used_blocks = 0;
  for (uint64_t w = 0; w * 64 < blocks; ++w) {
    const uint64_t inside = blocks - w * 64 >= 64 ? ~0ull : (1ull << (blocks - w * 64)) - 1;
    const uint64_t allocated = reinterpret_cast<const le64*>(bitmap->data())[w] & inside;
    const uint64_t nodes = nodes_.word(group, w);
    const uint64_t live = replayed_ ? live_nodes_.word(group, w) : nodes;
    const uint64_t owed = fixed_.word(group, w) | ledger_.mapped.word(group, w) | live;
    used_blocks += static_cast<uint64_t>(std::popcount(allocated));
    report_bits(not_allocated, base + w * 64, owed & ~allocated);
    if (complete) report_bits(leaked, base + w * 64, allocated & ~(owed | nodes));
  }
  reporter_.counts().free_blocks += blocks - used_blocks;
}

void SpacePass::compare_tuples() {
  BlockRunReporter missing(reporter_, ProblemId::tuples_missing, "");
  BlockRunReporter unreferenced(reporter_, ProblemId::tuples_unreferenced, "");
  for (uint64_t group = 0; group < superblock_.group_count; ++group) {
    for (uint64_t w = 0; w < kGroupBlocks / 64; ++w) {
      const uint64_t needs = ledger_.needs_tuples.word(group, w);
      const uint64_t has = ledger_.has_tuples.word(group, w);
      if (needs == has) continue;
      report_bits(missing, group * kGroupBlocks + w * 64, needs & ~has);
      report_bits(unreferenced, group * kGroupBlocks + w * 64, has & ~needs);
    }
  }
}

void SpacePass::compare_references() {
  for (const auto& [lba, run] : ledger_.references) {
    BlockRunReporter wrong(reporter_, ProblemId::reference_count,
                           fmt::format("reference item says {}", run.count));
    for (uint64_t i = 0; i < run.length_blocks; ++i) {
      const auto seen = ledger_.references_seen.find(lba + i);
      if (seen == ledger_.references_seen.end() || seen->second != run.count) wrong.add(lba + i);
    }
  }
}

}  // namespace stablefs
