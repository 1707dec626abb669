// SPDX-License-Identifier: GPL-2.0-or-later
// Figures: statfs and the counters of every layer, flat, for `stablefs stats`.
#include <fmt/format.h>

#include <cstring>

#include "fs/file_system_impl.h"

namespace stablefs {
namespace {

// Inodes live in the tree wherever there is room, so their number is bounded by space only. What
// statfs calls free is what would fit: an inode and a short name take about 300 bytes of a node two
// thirds full.
constexpr uint64_t kFilesPerBlock = 8;

void add_device(const DeviceCounters& device, Statistics& out) {
  out.emplace_back("device.reads", device.reads);
  out.emplace_back("device.read_blocks", device.read_blocks);
  out.emplace_back("device.writes", device.writes);
  out.emplace_back("device.written_blocks", device.written_blocks);
  out.emplace_back("device.fua_writes", device.fua_writes);
  out.emplace_back("device.flushes", device.flushes);
  out.emplace_back("device.discards", device.discards);
  out.emplace_back("device.errors", device.errors);
}

void add_store(const StoreCounters& store, const StoreGauges& gauges, const SpaceUsage& usage,
               Statistics& out) {
  out.emplace_back("journal.transactions", store.transactions);
  out.emplace_back("journal.batches", store.journal_batches);
  out.emplace_back("journal.blocks", store.journal_blocks);
  out.emplace_back("journal.records", store.journal_records);
  out.emplace_back("journal.waits", store.journal_waits);
  out.emplace_back("journal.used_blocks", gauges.journal_used_blocks);
  out.emplace_back("journal.replayed_batches", store.replayed_batches);
  out.emplace_back("journal.replayed_records", store.replayed_records);
  out.emplace_back("checkpoint.count", store.checkpoints);
  out.emplace_back("checkpoint.nodes", store.checkpoint_nodes);
  out.emplace_back("tree.node_reads", store.node_reads);
  out.emplace_back("tree.node_evictions", store.node_evictions);
  out.emplace_back("tree.nodes_loaded", gauges.nodes_loaded);
  out.emplace_back("tree.nodes_dirty", gauges.nodes_dirty);
  out.emplace_back("tree.blocks_replaced", gauges.node_blocks_replaced);
  out.emplace_back("space.waits", store.space_waits);
  out.emplace_back("space.reserved_blocks", gauges.blocks_reserved);
  out.emplace_back("space.pending_free_blocks", gauges.blocks_pending_free);
  out.emplace_back("space.unwritten_blocks", usage.unwritten_blocks);
  out.emplace_back("discard.requests", store.discard_requests);
  out.emplace_back("discard.blocks", store.discarded_blocks);
  out.emplace_back("discard.errors", store.discard_errors);
  out.emplace_back("discard.waiting_blocks", gauges.blocks_to_discard);
}

void add_data(const DataCounters& data, const DataGauges& gauges, Statistics& out) {
  out.emplace_back("data.reads", data.reads);
  out.emplace_back("data.read_bytes", data.read_bytes);
  out.emplace_back("data.writes", data.writes);
  out.emplace_back("data.written_bytes", data.written_bytes);
  out.emplace_back("data.write_errors", data.write_errors);
  out.emplace_back("data.throttle_waits", data.throttle_waits);
  out.emplace_back("data.shared_bytes", data.shared_bytes);
  out.emplace_back("data.copied_bytes", data.copied_bytes);
  out.emplace_back("pages.adopted", data.pages_adopted);
  out.emplace_back("pages.copied", data.pages_copied);
  out.emplace_back("pages.cache_hits", data.cache_hits);
  out.emplace_back("pages.cache_misses", data.cache_misses);
  out.emplace_back("pages.dirty_bytes", gauges.dirty_bytes);
  out.emplace_back("pages.writeback_bytes", gauges.writeback_bytes);
  out.emplace_back("pages.clean_bytes", gauges.clean_bytes);
  out.emplace_back("pages.lost_bytes", gauges.lost_bytes);
  out.emplace_back("guard.verified", data.guard_verified);
  out.emplace_back("guard.mismatches", data.guard_mismatches);
  out.emplace_back("damage.entries", gauges.damage_entries);
  out.emplace_back("ordered.created", data.ordered_created);
  out.emplace_back("ordered.committed", data.ordered_committed);
  out.emplace_back("ordered.failed", data.ordered_failed);
  out.emplace_back("ordered.split", data.ordered_split);
  out.emplace_back("direct.writes", data.direct_writes);
  out.emplace_back("direct.bytes", data.direct_bytes);
  out.emplace_back("direct.waits", data.direct_waits);  // for others in the same range
  out.emplace_back("direct.short", data.direct_short);
  out.emplace_back("direct.failed", data.direct_failed);
  out.emplace_back("direct.in_flight_bytes", gauges.direct_bytes);
  out.emplace_back("ordered.in_flight", gauges.ordered_in_flight);
  out.emplace_back("stable.swaps", data.stable_swaps);
  out.emplace_back("stable.copies", data.stable_copies);
  out.emplace_back("stable.waits", data.stable_waits);
  out.emplace_back("stable.overwrites", data.stable_overwrites);
  out.emplace_back("stable.shadow_bytes", gauges.shadow_bytes);
}

// Names say what a bucket stays below: "stable.wait_ns.below_4us".
std::string bound_text(uint64_t bound_ns) {
  if (bound_ns >= kNsPerSecond) return fmt::format("{}s", bound_ns / kNsPerSecond);
  if (bound_ns >= kNsPerMs) return fmt::format("{}ms", bound_ns / kNsPerMs);
  return fmt::format("{}us", bound_ns / 1000);
}

void add_histogram(const std::string& name, const Histogram& histogram, Statistics& out) {
  out.emplace_back(name, histogram.total_ns());
  for (size_t bucket = 0; bucket < Histogram::kBuckets; ++bucket) {
    const bool last = bucket + 1 == Histogram::kBuckets;
    const std::string bound = last ? "longer" : "below_" + bound_text(Histogram::bound_ns(bucket));
    out.emplace_back(name + "." + bound, histogram.count(bucket));
  }
}

void add_stable(const StableControl& stable, Statistics& out) {
  out.emplace_back("stable.policy", static_cast<uint64_t>(stable.policy()));
  out.emplace_back("stable.shadow_limit_bytes", stable.shadow_limit_bytes());
  out.emplace_back("stable.flight_ns", stable.flight_ns());
  out.emplace_back("stable.copy_ns", stable.copy_ns());
  add_histogram("stable.wait_ns", stable.waits_ns(), out);
}

}  // namespace

FsStatistics FileSystemImpl::statistics() {
  const SpaceUsage usage = store_->space_usage();
  FsStatistics figures{};
  // What no file can ever have is not part of the size, so that used + free makes up the total.
  figures.total_blocks = usage.total_blocks - std::min(usage.total_blocks, usage.overhead_blocks);
  figures.free_blocks = usage.free_blocks;
  figures.available_blocks = usage.available_blocks;
  figures.free_files = usage.available_blocks * kFilesPerBlock;
  figures.files = figures.total_blocks * kFilesPerBlock;
  figures.name_bytes_max = kMaxNameBytes;
  le64 id;
  std::memcpy(&id, store_->superblock().uuid, sizeof id);
  figures.filesystem_id = id;
  return figures;
}

Statistics FileSystemImpl::counters() {
  Statistics out;
  if (device_ != nullptr) add_device(device_->counters(), out);
  add_store(store_->counters(), store_->gauges(), store_->space_usage(), out);
  add_data(data_->counters(), data_->gauges(), out);
  add_stable(data_->stable(), out);
  out.emplace_back("fs.state", static_cast<uint64_t>(health_->state()));
  out.emplace_back("fs.losses", health_->losses());
  const auto cause = health_->cause();
  const int64_t error_seconds = cause ? std::max<int64_t>(cause->when.seconds, 0) : 0;
  out.emplace_back("fs.error_seconds", static_cast<uint64_t>(error_seconds));
  out.emplace_back("fs.inodes_in_memory", inodes_.size());
  out.emplace_back("fs.open_files", handles_.size());
  out.emplace_back("fs.orphans_queued", orphans_.queued());
  out.emplace_back("fs.orphans_removed", orphans_.reclaimed());
  return out;
}

}  // namespace stablefs
