// SPDX-License-Identifier: GPL-2.0-or-later
// Open files. A call in progress keeps its open file alive, so a release that overtakes it (or
// names a handle twice) is harmless.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <unordered_map>

#include "base/result.h"
#include "base/sync.h"
#include "fs/file_system.h"
#include "fs/orphans.h"

namespace stablefs {

class OpenFile {
 public:
  OpenFile(ContentsUse file, const OpenFlags& open_flags, const Health& health);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  // writeback_failed when errors happened that this open file has not been told of; once.
  Status report_errors();
  // shut_down when nothing can be committed any more and this open file, which is older than that,
  // has not been told of it; once.
  Status report_halt();
  // An error was returned that tells of all there was until now.
  void note_told(const Health& health);

  const ContentsUse use;
  const OpenFlags flags;

 private:
  std::atomic<uint64_t> errors_seen_;
  std::atomic<bool> halt_told_;
};

class HandleTable {
 public:
  HandleId add(std::shared_ptr<OpenFile> file);
  std::shared_ptr<OpenFile> get(HandleId handle);  // nothing: no such handle
  void remove(HandleId handle);
  void clear();
  size_t size();

 private:
  struct Shard {
    Mutex mutex{LockRank::leaf, "open files"};
    std::unordered_map<HandleId, std::shared_ptr<OpenFile>> files FS_GUARDED_BY(mutex);
  };
  static constexpr size_t kShards = 16;
  Shard& shard_of(HandleId handle) { return shards_[handle % kShards]; }

  std::atomic<HandleId> next_{1};
  std::array<Shard, kShards> shards_;
};

}  // namespace stablefs
