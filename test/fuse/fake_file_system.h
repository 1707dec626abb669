// SPDX-License-Identifier: GPL-2.0-or-later
// FileSystem in memory behind one lock: enough of POSIX to drive the fuse layer through a real
// mount, and eyes on what the layer hands in.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/sync.h"
#include "fs/file_system.h"

namespace stablefs {

class FakeFileSystem final : public FileSystem {
 public:
  FakeFileSystem();

  struct Observations {
    uint64_t writes = 0, unaligned_writes = 0, adopted_writes = 0;
    uint64_t syncs = 0, fsyncs = 0, truncating_opens = 0, kills = 0;
    uint64_t lookups_counted = 0, forgotten = 0;
    bool closed = false;
    XattrChange xattr_change;  // of the last set_xattr
  };
  Observations observations();
  // Keeps every payload of 128 KiB and more, as a cache that adopts does.
  void adopt_payloads() { adopt_ = true; }
  // Writes end short at this offset, as when space runs out there.
  void full_from(uint64_t offset_bytes) { full_from_ = offset_bytes; }

  Status close() override;
  void stop() override;
  Result<Attributes> lookup(Ino parent, std::string_view name) override;
  void forget(Ino ino, uint64_t lookups) override;
  Result<Attributes> make_node(Ino parent, std::string_view name, const NewFile& file) override;
  Result<Attributes> make_directory(Ino parent, std::string_view name,
                                    const NewFile& file) override;
  Result<Attributes> make_symlink(Ino parent, std::string_view name, std::string_view target,
                                  const NewFile& file) override;
  Result<std::pair<Attributes, HandleId>> create(Ino parent, std::string_view name,
                                                 const NewFile& file,
                                                 const OpenFlags& flags) override;
  Result<std::pair<Attributes, HandleId>> create_unnamed(Ino, const NewFile&,
                                                         const OpenFlags&) override {
    return ErrorCode::not_supported;
  }
  Result<Attributes> link(Ino ino, Ino new_parent, std::string_view new_name) override;
  Status unlink(Ino parent, std::string_view name) override;
  Status remove_directory(Ino parent, std::string_view name) override;
  Status rename(Ino parent, std::string_view name, Ino new_parent, std::string_view new_name,
                RenameMode mode, const NewFile* whiteout) override;
  Result<std::string> read_symlink(Ino ino) override;
  Result<Attributes> get_attributes(Ino ino) override;
  Result<Attributes> set_attributes(Ino ino, const AttributeChange& change) override;
  Status set_flags(Ino, uint32_t) override { return ErrorCode::not_supported; }
  Result<std::vector<std::byte>> get_xattr(Ino ino, std::string_view name) override;
  Status set_xattr(Ino ino, std::string_view name, std::span<const std::byte> value,
                   const XattrChange& change) override;
  Status remove_xattr(Ino, std::string_view) override { return ErrorCode::no_attribute; }
  Result<std::vector<std::string>> list_xattrs(Ino ino) override;
  Status read_directory(
      Ino ino, uint64_t after, bool count_lookup,
      const std::function<bool(const DirectoryEntry&, const Attributes*)>& emit) override;
  Result<HandleId> open_file(Ino ino, const OpenFlags& flags) override;
  void release(HandleId handle) override;
  bool note_cached_reads(HandleId) override { return false; }
  Result<uint64_t> read(Ino ino, HandleId handle, uint64_t offset_bytes,
                        std::span<std::byte> out) override;
  Result<uint64_t> write(Ino ino, HandleId handle, uint64_t offset_bytes,
                         const BufferSlice& payload, const WriteOptions& options) override;
  void write_direct(Ino ino, HandleId handle, uint64_t offset_bytes, const BufferSlice& payload,
                    const WriteOptions& options, DirectDone done) override {
    done(write(ino, handle, offset_bytes, payload, options));
  }
  Status may_cache_write(Ino, HandleId) override { return {}; }
  Status punch(Ino, HandleId, uint64_t, uint64_t) override { return ErrorCode::not_supported; }
  Status zero(Ino, HandleId, uint64_t, uint64_t, bool) override { return ErrorCode::not_supported; }
  void abort() override {}
  std::vector<InFlight> in_flight(size_t) override { return {}; }
  Status allocate(Ino, HandleId, uint64_t, uint64_t, bool) override {
    return ErrorCode::not_supported;
  }
  Result<uint64_t> trim(uint64_t, uint64_t, uint64_t) override { return ErrorCode::not_supported; }
  Result<uint64_t> copy_range(const CopyPlace&, const CopyPlace&, uint64_t, uint64_t) override {
    return ErrorCode::not_supported;
  }
  Status flush(Ino ino, HandleId handle) override;
  Status fsync(Ino ino, HandleId handle, bool data_only) override;
  Result<uint64_t> seek(Ino ino, HandleId handle, uint64_t offset_bytes, bool hole,
                        const std::function<bool()>& settle) override;
  Status sync_all() override;
  void set_stable_policy(StablePolicy policy) override { stable_policy = policy; }
  StablePolicy stable_policy = StablePolicy::automatic;
  void set_atime_policy(AtimePolicy, bool) override {}
  FsStatistics statistics() override;
  Result<uint16_t> app_tag(Ino) override { return ErrorCode::not_supported; }
  Status set_app_tag(Ino, uint16_t) override { return ErrorCode::not_supported; }
  Result<std::vector<Run>> mapped_runs(Ino, uint64_t, uint64_t) override {
    return ErrorCode::not_supported;
  }
  Result<std::vector<DamageEntry>> damage(Lba, size_t) override { return ErrorCode::not_supported; }
  Status clear_damage() override { return ErrorCode::not_supported; }
  Statistics counters() override;
  Store& store() override;

 private:
  struct Node {
    Attributes attributes;
    std::string target;
    std::vector<std::byte> data;
    std::map<std::string, Ino> entries;
    std::map<std::string, std::vector<std::byte>, std::less<>> xattrs;
    Ino parent;
  };

  Node* find(Ino ino) FS_REQUIRES(mutex_);
  Result<Node*> directory(Ino ino) FS_REQUIRES(mutex_);
  Result<Attributes> add(Ino parent, std::string_view name, const NewFile& file)
      FS_REQUIRES(mutex_);
  void drop_link(Ino ino) FS_REQUIRES(mutex_);
  Timestamp now();

  Mutex mutex_{LockRank::leaf, "fake"};
  SystemClock clock_;
  std::map<Ino, Node> nodes_ FS_GUARDED_BY(mutex_);
  uint64_t next_ino_ FS_GUARDED_BY(mutex_) = 2;
  Observations seen_ FS_GUARDED_BY(mutex_);
  std::vector<BufferSlice> kept_ FS_GUARDED_BY(mutex_);
  bool stopped_ FS_GUARDED_BY(mutex_) = false;
  bool adopt_ = false;
  std::atomic<uint64_t> full_from_{~0ull};
};

}  // namespace stablefs
