// SPDX-License-Identifier: GPL-2.0-or-later
#include "fs/handles.h"

#include <utility>

namespace stablefs {

OpenFile::OpenFile(ContentsUse file, const OpenFlags& open_flags, const Health& health)
    : use(std::move(file)),
      flags(open_flags),
      errors_seen_(use->data() ? use->data()->error_count() : 0),
      halt_told_(!health.allows(Activity::commit)) {
  if (flags.write) ++use->writers;
}

OpenFile::~OpenFile() {
  if (flags.write) --use->writers;
}

Status OpenFile::report_errors() {
  FileData* data = use->data();
  if (data == nullptr) return {};
  const uint64_t errors = data->error_count();
  uint64_t seen = errors_seen_.load();
  while (seen < errors) {
    if (errors_seen_.compare_exchange_weak(seen, errors)) return ErrorCode::writeback_failed;
  }
  return {};
}

Status OpenFile::report_halt() {
  if (halt_told_.exchange(true)) return {};
  return ErrorCode::shut_down;
}

void OpenFile::note_told(const Health& health) {
  (void)report_errors().ok();
  if (!health.allows(Activity::commit)) (void)report_halt().ok();
}

HandleId HandleTable::add(std::shared_ptr<OpenFile> file) {
  const HandleId handle = next_.fetch_add(1);
  Shard& shard = shard_of(handle);
  MutexLock lock(shard.mutex);
  shard.files.emplace(handle, std::move(file));
  return handle;
}

std::shared_ptr<OpenFile> HandleTable::get(HandleId handle) {
  Shard& shard = shard_of(handle);
  MutexLock lock(shard.mutex);
  const auto found = shard.files.find(handle);
  return found == shard.files.end() ? nullptr : found->second;
}

void HandleTable::remove(HandleId handle) {
  std::shared_ptr<OpenFile> file;  // closed after the lock is gone
  Shard& shard = shard_of(handle);
  MutexLock lock(shard.mutex);
  const auto found = shard.files.find(handle);
  if (found == shard.files.end()) return;
  file = std::move(found->second);
  shard.files.erase(found);
  lock.unlock();
}

void HandleTable::clear() {
  for (Shard& shard : shards_) {
    std::unordered_map<HandleId, std::shared_ptr<OpenFile>> files;
    MutexLock lock(shard.mutex);
    files.swap(shard.files);
    lock.unlock();
  }
}

size_t HandleTable::size() {
  size_t total = 0;
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    total += shard.files.size();
  }
  return total;
}

}  // namespace stablefs
