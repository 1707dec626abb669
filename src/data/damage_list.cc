// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/damage_list.h"

#include <algorithm>

namespace stablefs {
namespace {

// More is a device that is gone rather than one that has bad blocks.
constexpr uint64_t kEntriesMax = 65'536;
constexpr size_t kClearStepEntries = 1000;
constexpr uint64_t kClearStepBytes = kClearStepEntries * 18;  // opcode and key
// Looked at for the path in a log line, while a reader waits: some milliseconds.
constexpr uint64_t kPathItemsMax = 200'000;

}  // namespace

DamageList::DamageList(Store& store, const Options& options) : store_(store), options_(options) {
  load();
}

// What cannot be read is no reason to refuse the files that can.
void DamageList::load() {
  const auto entries = read_damage(store_, Lba(0), SIZE_MAX);
  if (!entries.ok()) {
    options_.logger->write(LogLevel::error,
                           "the damage list cannot be read: " + entries.error().message());
    return;
  }
  for (const DamageEntry& entry : *entries) insert(entry, true);
}

void DamageList::insert(const DamageEntry& entry, bool stored) {
  MutexLock lock(mutex_);
  known_[entry.lba] = {entry, stored};
  size_.store(known_.size(), std::memory_order_relaxed);
}

DamageList::Added DamageList::add(const DamageEntry& entry) {
  JournalReservation journal;
  SharingLock shared;  // else two files that share the block might add it at once
  const bool store = may_store() && reserve(sizeof(DiskDamage), journal, shared).ok();
  {
    MutexLock lock(mutex_);
    if (known_.contains(entry.lba)) return Added::known;
    if (known_.size() >= kEntriesMax) return Added::refused;
  }
  insert(entry, store && store_item(entry, journal));
  return Added::fresh;
}

bool DamageList::may_store() const {
  return !options_.read_only && options_.health->check(Activity::change).ok();
}

// Nobody waits for journal space while he holds the lock.
Status DamageList::reserve(uint64_t bytes, JournalReservation& journal, SharingLock& shared) {
  if (options_.sharing == nullptr || !options_.sharing->any()) return {};
  constexpr uint64_t kOverheadBytes = 64;
  journal = FS_TRY(store_.reserve_journal(bytes + kOverheadBytes));
  shared.take(*options_.sharing);
  return {};
}

bool DamageList::store_item(const DamageEntry& entry, JournalReservation& journal) {
  Transaction transaction;
  transaction.put_struct(damage_key(entry.lba), to_disk(entry));
  return commit(transaction, journal).ok();
}

Status DamageList::commit(const Transaction& transaction, JournalReservation& journal) {
  FS_TRY(store_.commit(transaction, false, journal.held() ? &journal : nullptr));
  return {};
}

uint64_t DamageList::count(BlockRange range) const {
  if (empty()) return 0;
  MutexLock lock(mutex_);
  return static_cast<uint64_t>(
      std::distance(known_.lower_bound(range.start), known_.lower_bound(range.end())));
}

void DamageList::erase(Transaction& transaction, BlockRange range, std::vector<Lba>& erased) const {
  if (empty()) return;
  MutexLock lock(mutex_);
  const auto end = known_.lower_bound(range.end());
  for (auto at = known_.lower_bound(range.start); at != end; ++at) {
    if (at->second.stored) transaction.erase(damage_key(at->first));
    erased.push_back(at->first);
  }
}

// Whose it is now is looked for when somebody asks.
void DamageList::pass_on(Transaction& transaction, BlockRange range, Ino ino) {
  if (empty()) return;
  MutexLock lock(mutex_);
  const auto end = known_.lower_bound(range.end());
  for (auto at = known_.lower_bound(range.start); at != end; ++at) {
    DamageEntry& entry = at->second.entry;
    if (entry.ino != ino) continue;
    entry.passed_on = true;
    if (at->second.stored) transaction.put_struct(damage_key(at->first), to_disk(entry));
  }
}

void DamageList::forget(std::span<const Lba> blocks) {
  if (blocks.empty()) return;
  MutexLock lock(mutex_);
  for (const Lba lba : blocks) known_.erase(lba);
  size_.store(known_.size(), std::memory_order_relaxed);
}

Status DamageList::clear(std::span<const Lba> blocks) {
  while (!blocks.empty()) {
    const auto step = blocks.first(std::min(kClearStepEntries, blocks.size()));
    JournalReservation journal;
    SharingLock shared;  // the block may have passed to another file
    FS_TRY(reserve(kClearStepBytes, journal, shared));
    Transaction transaction;
    std::vector<Lba> erased;
    for (const Lba lba : step) erase(transaction, {lba, 1}, erased);
    if (!transaction.empty()) FS_TRY(commit(transaction, journal));
    forget(erased);
    blocks = blocks.subspan(step.size());
  }
  return {};
}

std::vector<DamageEntry> DamageList::list(Lba from, size_t limit) const {
  std::vector<DamageEntry> entries;
  MutexLock lock(mutex_);
  for (auto at = known_.lower_bound(from); at != known_.end() && entries.size() < limit; ++at) {
    entries.push_back(at->second.entry);
  }
  return entries;
}

std::optional<std::string> DamageList::path_for_log(Ino ino) {
  {
    EntryPlace place;
    bool same = false;
    {
      MutexLock lock(mutex_);
      same = last_ino_ == ino;
      place = last_place_;
    }
    if (same) {
      if (auto path = path_of_entry(store_, place, ino)) return path;
    }
  }
  const auto places = find_entries(store_, {ino}, kPathItemsMax);
  if (places.empty()) return std::nullopt;
  const EntryPlace place = places.begin()->second;
  {
    MutexLock lock(mutex_);
    last_ino_ = ino;
    last_place_ = place;
  }
  return path_of_entry(store_, place, ino);
}

}  // namespace stablefs
