// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/check.h"

#include "check/data_pass.h"
#include "check/device_pass.h"
#include "check/item_pass.h"
#include "check/name_pass.h"
#include "check/space_pass.h"

namespace stablefs {
namespace {

// Everything that needs the store.
void check_contents(BlockDevice& device, Store& store, const DevicePass& disk, Reporter& reporter) {
  CheckReport& counts = reporter.counts();
  counts.replayed_records = store.counters().replayed_records;
  Ledger ledger(store.superblock().block_count);
  Scanner scanner(store, disk.damaged());
  const bool scanned = ItemPass(store, disk.nodes(), reporter, ledger).run(scanner);
  const bool complete = scanned && disk.tree_sound();
  counts.incomplete = !complete;
  NamePass names(store, reporter, ledger);
  // With items missing, what they owe each other would be a list of consequences.
  if (complete) names.run();
  if (disk.tree_sound()) {
    SpacePass(store, disk.nodes(), counts.replayed_records != 0, reporter, ledger).run(complete);
  }
  if (reporter.options().verify_data) {
    DataPass(device, store, reporter, [&names](uint64_t ino) {
      return names.where(ino);
    }).run(scanner, counts.data_blocks);
  }
}

bool any_ours(const std::vector<SuperblockSlot>& slots) {
  for (const SuperblockSlot& slot : slots) {
    if (slot.superblock.magic == kSuperblockMagic) return true;
  }
  return false;
}

}  // namespace

Result<CheckReport> check_filesystem(BlockDevice& device, const CheckOptions& options, Clock& clock,
                                     Logger& logger) {
  CheckReport report;
  Reporter reporter(options, report);
  const auto slots = read_superblock_slots(device);
  const SuperblockSlot* newest = newest_slot(slots);
  if (newest == nullptr) {
    if (!any_ours(slots)) return slots[0].status.error();
    for (const SuperblockSlot& slot : slots) {
      // Of another version: nothing is wrong with it, we are just not the ones to check it.
      const ErrorCode code = slot.status.error().code();
      if (code == ErrorCode::superblock_version || code == ErrorCode::superblock_features) {
        return slot.status.error();
      }
    }
    reporter.add(ProblemId::superblock_none_valid, "superblock", slots[0].status.error().message());
    report.unreadable = report.incomplete = true;
    return report;
  }
  const DiskSuperblock superblock = newest->superblock;
  DevicePass disk(device, superblock, reporter);
  disk.check_slots(slots);
  disk.check_journal();
  disk.check_tree();
  disk.check_space();

  StoreOptions store_options;
  store_options.clock = &clock;
  store_options.logger = &logger;
  store_options.read_only = true;
  store_options.background = false;
  auto store = Store::open(device, store_options);
  if (!store.ok()) {
    if (report.problems == 0) {
      reporter.add(ProblemId::open_failed, "filesystem", store.error().message());
    }
    report.unreadable = report.incomplete = true;
    return report;
  }
  check_contents(device, **store, disk, reporter);
  return report;
}

}  // namespace stablefs
