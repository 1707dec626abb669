// SPDX-License-Identifier: GPL-2.0-or-later
#include "fake_file_system.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace stablefs {

FakeFileSystem::FakeFileSystem() {
  MutexLock lock(mutex_);
  Node& root = nodes_[kRootIno];
  root.attributes.ino = kRootIno;
  root.attributes.mode = S_IFDIR | 0755;
  root.attributes.link_count = 2;
  root.attributes.modify_time = root.attributes.change_time = now();
  root.parent = kRootIno;
}

Timestamp FakeFileSystem::now() {
  return clock_.wall_time();
}

FakeFileSystem::Observations FakeFileSystem::observations() {
  MutexLock lock(mutex_);
  return seen_;
}

FakeFileSystem::Node* FakeFileSystem::find(Ino ino) {
  const auto found = nodes_.find(ino);
  return found == nodes_.end() ? nullptr : &found->second;
}

Result<FakeFileSystem::Node*> FakeFileSystem::directory(Ino ino) {
  if (stopped_) return ErrorCode::shut_down;
  Node* node = find(ino);
  if (node == nullptr) return ErrorCode::stale_inode;
  if (!S_ISDIR(node->attributes.mode)) return ErrorCode::not_a_directory;
  return node;
}

Status FakeFileSystem::close() {
  MutexLock lock(mutex_);
  seen_.closed = true;
  return {};
}

void FakeFileSystem::stop() {
  MutexLock lock(mutex_);
  stopped_ = true;
}

Result<Attributes> FakeFileSystem::lookup(Ino parent, std::string_view name) {
  MutexLock lock(mutex_);
  Node* node = FS_TRY(directory(parent));
  const auto found = node->entries.find(std::string(name));
  if (found == node->entries.end()) return ErrorCode::not_found;
  ++seen_.lookups_counted;
  return find(found->second)->attributes;
}

void FakeFileSystem::forget(Ino, uint64_t lookups) {
  MutexLock lock(mutex_);
  seen_.forgotten += lookups;
}

Result<Attributes> FakeFileSystem::add(Ino parent, std::string_view name, const NewFile& file) {
  Node* where = FS_TRY(directory(parent));
  if (where->entries.contains(std::string(name))) return ErrorCode::exists;
  const Ino ino(next_ino_++);
  Node& node = nodes_[ino];
  node.attributes.ino = ino;
  node.attributes.mode = file.mode & ~file.umask;
  node.attributes.uid = file.uid;
  node.attributes.gid = file.gid;
  node.attributes.device_major = file.device_major;
  node.attributes.device_minor = file.device_minor;
  node.attributes.link_count = S_ISDIR(file.mode) ? 2 : 1;
  node.attributes.access_time = node.attributes.modify_time = node.attributes.change_time =
      node.attributes.birth_time = now();
  node.parent = parent;
  where->entries[std::string(name)] = ino;
  where->attributes.modify_time = where->attributes.change_time = now();
  if (S_ISDIR(file.mode)) ++where->attributes.link_count;
  ++seen_.lookups_counted;
  return node.attributes;
}

Result<Attributes> FakeFileSystem::make_node(Ino parent, std::string_view name,
                                             const NewFile& file) {
  MutexLock lock(mutex_);
  return add(parent, name, file);
}

Result<Attributes> FakeFileSystem::make_directory(Ino parent, std::string_view name,
                                                  const NewFile& file) {
  MutexLock lock(mutex_);
  return add(parent, name, file);
}

Result<Attributes> FakeFileSystem::make_symlink(Ino parent, std::string_view name,
                                                std::string_view target, const NewFile& file) {
  MutexLock lock(mutex_);
  Attributes made = FS_TRY(add(parent, name, file));
  Node* node = find(made.ino);
  node->target = target;
  node->attributes.size_bytes = target.size();
  return node->attributes;
}

Result<std::pair<Attributes, HandleId>> FakeFileSystem::create(Ino parent, std::string_view name,
                                                               const NewFile& file,
                                                               const OpenFlags&) {
  MutexLock lock(mutex_);
  Attributes made = FS_TRY(add(parent, name, file));
  return std::pair(made, HandleId{made.ino.value});
}

Result<Attributes> FakeFileSystem::link(Ino ino, Ino new_parent, std::string_view new_name) {
  MutexLock lock(mutex_);
  Node* where = FS_TRY(directory(new_parent));
  if (where->entries.contains(std::string(new_name))) return ErrorCode::exists;
  Node* node = find(ino);
  if (node == nullptr) return ErrorCode::stale_inode;
  where->entries[std::string(new_name)] = ino;
  ++node->attributes.link_count;
  ++seen_.lookups_counted;
  return node->attributes;
}

void FakeFileSystem::drop_link(Ino ino) {
  --find(ino)->attributes.link_count;
}

Status FakeFileSystem::unlink(Ino parent, std::string_view name) {
  MutexLock lock(mutex_);
  Node* where = FS_TRY(directory(parent));
  const auto found = where->entries.find(std::string(name));
  if (found == where->entries.end()) return ErrorCode::not_found;
  drop_link(found->second);
  where->entries.erase(found);
  return {};
}

Status FakeFileSystem::remove_directory(Ino parent, std::string_view name) {
  MutexLock lock(mutex_);
  Node* where = FS_TRY(directory(parent));
  const auto found = where->entries.find(std::string(name));
  if (found == where->entries.end()) return ErrorCode::not_found;
  if (!find(found->second)->entries.empty()) return ErrorCode::directory_not_empty;
  where->entries.erase(found);
  --where->attributes.link_count;
  return {};
}

Status FakeFileSystem::rename(Ino parent, std::string_view name, Ino new_parent,
                              std::string_view new_name, RenameMode mode, const NewFile*) {
  MutexLock lock(mutex_);
  Node* from = FS_TRY(directory(parent));
  Node* to = FS_TRY(directory(new_parent));
  const auto source = from->entries.find(std::string(name));
  if (source == from->entries.end()) return ErrorCode::not_found;
  const auto target = to->entries.find(std::string(new_name));
  const Ino moved = source->second;
  if (mode == RenameMode::exchange) {
    if (target == to->entries.end()) return ErrorCode::not_found;
    std::swap(source->second, target->second);
    return {};
  }
  if (target != to->entries.end()) {
    if (mode == RenameMode::no_replace) return ErrorCode::exists;
    drop_link(target->second);
  }
  from->entries.erase(source);
  to->entries[std::string(new_name)] = moved;
  return {};
}

Result<std::string> FakeFileSystem::read_symlink(Ino ino) {
  MutexLock lock(mutex_);
  return find(ino)->target;
}

Result<Attributes> FakeFileSystem::get_attributes(Ino ino) {
  MutexLock lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr) return ErrorCode::stale_inode;
  return node->attributes;
}

Result<Attributes> FakeFileSystem::set_attributes(Ino ino, const AttributeChange& change) {
  MutexLock lock(mutex_);
  if (stopped_) return ErrorCode::shut_down;
  Node* node = find(ino);
  if (node == nullptr) return ErrorCode::stale_inode;
  Attributes& attributes = node->attributes;
  if (change.mode) attributes.mode = (attributes.mode & S_IFMT) | *change.mode;
  if (change.uid) attributes.uid = *change.uid;
  if (change.gid) attributes.gid = *change.gid;
  if (change.size_bytes) {
    if (*change.size_bytes > (1u << 30)) return ErrorCode::file_too_large;
    node->data.resize(*change.size_bytes);
    attributes.size_bytes = *change.size_bytes;
  }
  if (change.access_time) attributes.access_time = *change.access_time;
  if (change.modify_time) attributes.modify_time = *change.modify_time;
  if (change.change_time) attributes.change_time = *change.change_time;
  if (change.access_time_now) attributes.access_time = now();
  if (change.modify_time_now) attributes.modify_time = now();
  if (change.set_ids != SetIds::keep) {
    attributes.mode &= ~(S_ISUID | S_ISGID);
    ++seen_.kills;
  }
  return attributes;
}

// Cookies: 1 and 2 for "." and "..", then 3 + the inode number.
Status FakeFileSystem::read_directory(
    Ino ino, uint64_t after, bool count_lookup,
    const std::function<bool(const DirectoryEntry&, const Attributes*)>& emit) {
  MutexLock lock(mutex_);
  Node* node = FS_TRY(directory(ino));
  if (after < 1 && !emit({1, ino, DT_DIR, "."}, nullptr)) return {};
  if (after < 2 && !emit({2, node->parent, DT_DIR, ".."}, nullptr)) return {};
  std::vector<std::pair<uint64_t, std::string>> sorted;
  for (const auto& [name, child] : node->entries) sorted.emplace_back(child.value + 3, name);
  std::sort(sorted.begin(), sorted.end());
  for (const auto& [cookie, name] : sorted) {
    if (cookie <= after) continue;
    const Node* child = find(Ino(cookie - 3));
    const DirectoryEntry entry{cookie, Ino(cookie - 3),
                               static_cast<uint8_t>(IFTODT(child->attributes.mode)), name};
    if (!emit(entry, count_lookup ? &child->attributes : nullptr)) return {};
    if (count_lookup) ++seen_.lookups_counted;
  }
  return {};
}

Result<HandleId> FakeFileSystem::open_file(Ino ino, const OpenFlags& flags) {
  MutexLock lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr) return ErrorCode::stale_inode;
  if (flags.truncate) {
    ++seen_.truncating_opens;
    node->data.clear();
    node->attributes.size_bytes = 0;
  }
  return ino.value;
}

void FakeFileSystem::release(HandleId) {}

Result<uint64_t> FakeFileSystem::read(Ino ino, HandleId, uint64_t offset_bytes,
                                      std::span<std::byte> out) {
  MutexLock lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr) return ErrorCode::stale_inode;
  if (offset_bytes >= node->data.size()) return uint64_t{0};
  const size_t length = std::min<uint64_t>(out.size(), node->data.size() - offset_bytes);
  std::memcpy(out.data(), node->data.data() + offset_bytes, length);
  return uint64_t{length};
}

Result<std::vector<std::byte>> FakeFileSystem::get_xattr(Ino ino, std::string_view name) {
  MutexLock lock(mutex_);
  const Node* node = find(ino);
  if (node == nullptr) return ErrorCode::stale_inode;
  // The kernel looks for access lists; no other answer than this is none.
  if (name.starts_with("system.posix_acl_")) return ErrorCode::no_attribute;
  if (name.starts_with("system.")) return ErrorCode::not_supported;
  const auto found = node->xattrs.find(name);
  if (found == node->xattrs.end()) return ErrorCode::no_attribute;
  return found->second;
}

Status FakeFileSystem::set_xattr(Ino ino, std::string_view name, std::span<const std::byte> value,
                                 const XattrChange& change) {
  MutexLock lock(mutex_);
  Node* node = find(ino);
  if (node == nullptr) return ErrorCode::stale_inode;
  seen_.xattr_change = change;
  node->xattrs[std::string(name)].assign(value.begin(), value.end());
  return {};
}

Result<std::vector<std::string>> FakeFileSystem::list_xattrs(Ino ino) {
  MutexLock lock(mutex_);
  const Node* node = find(ino);
  if (node == nullptr) return ErrorCode::stale_inode;
  std::vector<std::string> names;
  for (const auto& [name, value] : node->xattrs) names.push_back(name);
  return names;
}

Result<uint64_t> FakeFileSystem::write(Ino ino, HandleId, uint64_t offset_bytes,
                                       const BufferSlice& payload, const WriteOptions& options) {
  MutexLock lock(mutex_);
  if (stopped_) return ErrorCode::shut_down;
  Node* node = find(ino);
  if (node == nullptr) return ErrorCode::stale_inode;
  ++seen_.writes;
  if (!payload.page_aligned()) ++seen_.unaligned_writes;
  const uint64_t end = std::min(offset_bytes + payload.size(), full_from_.load());
  if (end <= offset_bytes) return ErrorCode::no_space;
  if (end > node->data.size()) node->data.resize(end);
  std::memcpy(node->data.data() + offset_bytes, payload.bytes().data(), end - offset_bytes);
  node->attributes.size_bytes = node->data.size();
  node->attributes.block_count = blocks_for_bytes(node->data.size());
  if (options.set_ids != SetIds::keep) {
    node->attributes.mode &= ~(S_ISUID | S_ISGID);
    ++seen_.kills;
  }
  if (adopt_ && payload.size() >= 128 << 10) {
    kept_.push_back(payload);
    ++seen_.adopted_writes;
    if (kept_.size() > 8) kept_.erase(kept_.begin());
  }
  return end - offset_bytes;
}

Status FakeFileSystem::flush(Ino, HandleId) {
  return {};
}

Status FakeFileSystem::fsync(Ino, HandleId, bool) {
  MutexLock lock(mutex_);
  ++seen_.fsyncs;
  return {};
}

Result<uint64_t> FakeFileSystem::seek(Ino ino, HandleId, uint64_t offset_bytes, bool hole,
                                      const std::function<bool()>&) {
  MutexLock lock(mutex_);
  const uint64_t size = find(ino)->data.size();
  if (offset_bytes >= size) return ErrorCode::seek_beyond_end;
  return hole ? size : offset_bytes;
}

Status FakeFileSystem::sync_all() {
  MutexLock lock(mutex_);
  ++seen_.syncs;
  return {};
}

FsStatistics FakeFileSystem::statistics() {
  return {1000, 600, 500, 10, 20, 255, 7};
}

Statistics FakeFileSystem::counters() {
  return {{"fake.answer", 42}};
}

Store& FakeFileSystem::store() {
  std::abort();  // the fuse layer has no business with it
}

}  // namespace stablefs
