// SPDX-License-Identifier: GPL-2.0-or-later
// A Store and a DataContext without disk, for tests of the fs layer: items in a std::map, contents
// in byte vectors. The medium outlives them, so that tests can mount again. Every item put is
// validated and every erase must hit.
#pragma once

#include <cstring>
#include <map>
#include <set>
#include <string>

#include "base/sync.h"
#include "data/file_data.h"
#include "format/items.h"
#include "format/journal.h"
#include "store/store.h"

namespace stablefs {

struct FakeMedium {
  std::map<Key, std::vector<std::byte>> items;
  std::map<Ino, std::vector<std::byte>> contents;  // what was written back
  uint64_t next_ino = 2;
  uint64_t sequence = 0;

  FakeMedium() {
    InodeAttributes root;
    root.mode = 0040755;
    root.link_count = 2;
    root.parent = kRootIno;
    put_struct(Key(kRootIno, ItemKind::inode, 0), to_disk(root));
  }
  template <class T>
  void put_struct(const Key& key, const T& value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    items[key].assign(bytes, bytes + sizeof value);
  }
};

class FakeStore final : public Store {
 public:
  explicit FakeStore(FakeMedium& medium) : medium_(medium) { superblock_ = {}; }

  std::atomic<bool> fail_commits{false};  // no_space when growing, shut_down otherwise
  std::atomic<uint64_t> synced{0};        // highest sequence asked for
  std::atomic<uint64_t> commits{0};

  Status close() override { return {}; }
  void stop(ErrorCode) override { stopped_ = true; }

  Result<std::optional<std::vector<std::byte>>> get(const Key& key) override {
    MutexLock lock(mutex_);
    const auto found = medium_.items.find(key);
    if (found == medium_.items.end()) return std::optional<std::vector<std::byte>>{};
    return std::optional(found->second);
  }
  Result<std::vector<Item>> scan(const Key& first, const Key& last, size_t limit) override {
    MutexLock lock(mutex_);
    std::vector<Item> found;
    for (auto at = medium_.items.lower_bound(first);
         at != medium_.items.end() && at->first <= last && found.size() < limit; ++at) {
      found.push_back({at->first, at->second});
    }
    return found;
  }
  Result<std::optional<Item>> floor(const Key&, const Key&) override {
    return ErrorCode::not_supported;
  }
  ReadPin pin() override { return {}; }

  Result<Sequence> commit(const Transaction& transaction, bool grows,
                          JournalReservation*) override {
    MutexLock lock(mutex_);
    if (stopped_) return ErrorCode::shut_down;
    if (fail_commits) return grows ? ErrorCode::no_space : ErrorCode::shut_down;
    ++commits;
    const Status applied = for_each_operation(
        transaction.body(), transaction.op_count(),
        [this](const JournalOperation& op) FS_NO_THREAD_SAFETY_ANALYSIS -> Status {
          if (op.op == JournalOp::put) {
            const Status valid = validate_item(op.key, op.value, interval());
            if (!valid.ok()) std::fprintf(stderr, "%s\n", valid.error().message().c_str());
            FS_ASSERT(valid.ok());
            medium_.items[op.key].assign(op.value.begin(), op.value.end());
          } else if (op.op == JournalOp::erase) {
            const bool erased_key_exists = medium_.items.erase(op.key) == 1;
            FS_ASSERT(erased_key_exists);
          }
          return {};
        });
    FS_ASSERT(applied.ok());
    return Sequence(++medium_.sequence);
  }
  Result<JournalReservation> reserve_journal(uint64_t) override { return JournalReservation(); }
  Status sync(Sequence sequence) override {
    if (stopped_) return ErrorCode::shut_down;
    uint64_t seen = synced;
    while (seen < sequence.value && !synced.compare_exchange_weak(seen, sequence.value)) {
    }
    return {};
  }
  Sequence last_sequence() const override {
    MutexLock lock(mutex_);
    return Sequence(medium_.sequence);
  }
  Sequence durable_sequence() const override { return Sequence(synced); }
  Status checkpoint() override { return {}; }
  Result<SpaceReservation> reserve_space(uint64_t, SpaceUse) override { return SpaceReservation(); }
  Result<BlockRange> allocate(SpaceReservation&, uint64_t, Lba) override {
    return ErrorCode::not_supported;
  }
  void give_back(BlockRange) override {}
  SpaceUsage space_usage() override { return {10000, 100, 5000, 4000, 0}; }
  Result<uint64_t> discard_free(BlockRange, uint64_t) override { return uint64_t{0}; }
  Ino new_ino() override {
    MutexLock lock(mutex_);
    return Ino(medium_.next_ino++);
  }
  const DiskSuperblock& superblock() const override { return superblock_; }
  Interval interval() const override { return Interval::block_4096; }
  std::optional<Error> failure() const override { return std::nullopt; }
  const StoreCounters& counters() const override { return counters_; }
  StoreGauges gauges() override { return {}; }
  void visit_nodes(const std::function<void(const NodeView&, const Status&)>&) override {}
  Result<bool> is_allocated(Lba) override { return false; }
  Result<std::vector<std::byte>> group_bitmap(uint32_t) override {
    return ErrorCode::not_supported;
  }

 private:
  void release_space(uint64_t) override {}
  void release_journal(uint64_t) override {}
  void release_pin(uint64_t) override {}

  mutable Mutex mutex_{LockRank::tree, "fake store"};
  FakeMedium& medium_;
  DiskSuperblock superblock_;
  StoreCounters counters_;
  std::atomic<bool> stopped_{false};
};

class FakeData final : public DataContext {
 public:
  FakeData(Store& store, FakeMedium& medium) : store_(store), medium_(medium) {}
  DamageList& damage() override { return damage_; }
  std::vector<InFlight> in_flight(size_t) override { return {}; }

  std::atomic<uint64_t> write_errors{0};  // of every file
  std::atomic<bool> full{false};
  std::atomic<uint64_t> write_backs{0};  // that had something to write

  std::unique_ptr<FileData> open(InodeState& inode) override {
    return std::make_unique<File>(*this, inode);
  }
  StableControl& stable() override { return stable_; }
  Status sync_all() override {
    std::vector<File*> files;
    {
      MutexLock lock(mutex_);
      for (File* file : files_) {
        if (file->dirty_) files.push_back(file);
      }
      for (File* file : files) ++file->users_;
    }
    Status first_error;
    for (File* file : files) {
      const Status done = file->write_back();
      if (first_error.ok()) first_error = done;
      MutexLock lock(mutex_);
      if (--file->users_ == 0) unused_.notify_all();
    }
    return first_error;
  }
  void stop() override { drop_dirty(); }
  void abandon() override { drop_dirty(); }
  const DataCounters& counters() const override { return counters_; }
  DataGauges gauges() override { return {}; }

 private:
  class File final : public FileData {
   public:
    File(FakeData& context, InodeState& inode) : context_(context), inode_(inode) {
      MutexLock lock(context_.mutex_);
      context_.files_.insert(this);
      const auto found = context_.medium_.contents.find(inode.ino);
      if (found != context_.medium_.contents.end()) bytes_ = found->second;
    }
    ~File() override {
      MutexLock lock(context_.mutex_);
      while (users_ != 0) context_.unused_.wait(context_.mutex_);
      FS_ASSERT(!dirty_);
      context_.files_.erase(this);
    }
    Status write_direct(uint64_t offset, const BufferSlice& payload, Timestamp now,
                        DirectDone done) override {
      done(write(offset, payload, now));
      return {};
    }
    Result<uint64_t> read(uint64_t offset, std::span<std::byte> out, ReadCache) override {
      MutexLock lock(context_.mutex_);
      if (offset >= bytes_.size()) return 0;
      const size_t length = std::min<uint64_t>(out.size(), bytes_.size() - offset);
      std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), length, out.begin());
      return length;
    }
    Result<uint64_t> write(uint64_t offset, const BufferSlice& payload,
                           std::optional<Timestamp> now) override {
      if (context_.full) return ErrorCode::no_space;
      MutexLock attributes(inode_.mutex);
      MutexLock lock(context_.mutex_);
      if (bytes_.size() < offset + payload.size()) bytes_.resize(offset + payload.size());
      std::copy(payload.bytes().begin(), payload.bytes().end(),
                bytes_.begin() + static_cast<ptrdiff_t>(offset));
      dirty_ = true;
      inode_.attributes.size_bytes = bytes_.size();
      if (now) inode_.attributes.modify_time = inode_.attributes.change_time = *now;
      inode_.item_dirty = true;
      return payload.size();
    }
    Status truncate(uint64_t size, Timestamp now) override {
      MutexLock attributes(inode_.mutex);
      InodeAttributes changed = inode_.attributes;
      changed.size_bytes = changed.disk_size_bytes = size;
      changed.modify_time = changed.change_time = now;
      if (Status done = put(changed); !done.ok()) return done;
      MutexLock lock(context_.mutex_);
      bytes_.resize(size);
      context_.medium_.contents[inode_.ino] = bytes_;
      dirty_ = false;
      return {};
    }
    Status punch(uint64_t offset, uint64_t length, Timestamp now) override {
      return zero(offset, length, true, now);
    }
    Status zero(uint64_t, uint64_t, bool, Timestamp) override { return ErrorCode::not_supported; }
    Status allocate(uint64_t, uint64_t, bool, Timestamp) override {
      return ErrorCode::not_supported;
    }
    Result<uint64_t> copy_range(uint64_t, FileData&, uint64_t, uint64_t, Timestamp) override {
      return ErrorCode::not_supported;
    }
    Status write_back() override {
      MutexLock attributes(inode_.mutex);
      if (context_.write_errors != 0) return ErrorCode::writeback_failed;
      {
        MutexLock lock(context_.mutex_);
        if (!dirty_) return {};
        ++context_.write_backs;
        context_.medium_.contents[inode_.ino] = bytes_;
        dirty_ = false;
      }
      InodeAttributes changed = inode_.attributes;
      changed.disk_size_bytes = changed.size_bytes;
      changed.block_count = blocks_for_bytes(changed.size_bytes);
      return put(changed);
    }
    bool has_dirty_pages() override {
      MutexLock lock(context_.mutex_);
      return dirty_;
    }
    Status remove_all() override {
      MutexLock attributes(inode_.mutex);
      InodeAttributes changed = inode_.attributes;
      changed.block_count = 0;
      if (Status done = put(changed); !done.ok()) return done;
      MutexLock lock(context_.mutex_);
      dirty_ = false;
      bytes_.clear();
      context_.medium_.contents.erase(inode_.ino);
      return {};
    }
    Result<uint64_t> seek(uint64_t offset, bool hole) override {
      MutexLock lock(context_.mutex_);
      if (offset >= bytes_.size()) return ErrorCode::seek_beyond_end;
      return hole ? bytes_.size() : offset;
    }
    Status set_app_tag(uint16_t, Timestamp) override { return ErrorCode::not_supported; }
    Result<std::vector<Run>> mapped_runs(uint64_t, uint64_t) override {
      return ErrorCode::not_supported;
    }
    uint64_t promised_blocks() override { return 0; }
    void drop_clean() override {}
    bool has_lost_pages() override { return context_.write_errors != 0; }
    uint64_t error_count() override { return context_.write_errors; }
    Status free_extents(uint64_t start_block,
                        const std::function<void(Transaction&)>& last) override {
      Transaction transaction;
      last(transaction);
      auto done = context_.store_.commit(transaction, false);
      if (!done.ok()) return done.error();
      MutexLock lock(context_.mutex_);
      bytes_.resize(std::min<size_t>(bytes_.size(), start_block * kBlockSize));
      context_.medium_.contents[inode_.ino] = bytes_;
      return {};
    }

   private:
    friend class FakeData;
    Status put(const InodeAttributes& changed) FS_REQUIRES(inode_.mutex) {
      Transaction transaction;
      transaction.put_struct(Key(inode_.ino, ItemKind::inode, 0), to_disk(changed));
      auto done = context_.store_.commit(transaction, false);
      if (!done.ok()) return done.error();
      inode_.attributes = changed;
      inode_.item_dirty = false;
      inode_.last_sequence = done.value();
      return {};
    }
    FakeData& context_;
    InodeState& inode_;
    std::vector<std::byte> bytes_;
    bool dirty_ = false;
    int users_ = 0;
  };

  void drop_dirty() {
    MutexLock lock(mutex_);
    for (File* file : files_) file->dirty_ = false;
  }

  StableControl stable_{StablePolicy::automatic, 1 << 20};
  Store& store_;
  FakeMedium& medium_;
  DamageList damage_{store_, {}};  // of a fake nothing is ever damaged
  DataCounters counters_;
  Mutex mutex_{LockRank::page, "fake data"};
  CondVar unused_;
  std::set<File*> files_;
};

}  // namespace stablefs
