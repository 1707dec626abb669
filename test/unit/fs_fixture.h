// SPDX-License-Identifier: GPL-2.0-or-later
// A file system under test, on fakes or on the real layers over a memory device, and a checker of
// the items it leaves behind.
#pragma once

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <vector>

#include "check/check.h"
#include "device/memory_device.h"
#include "fs/file_system_impl.h"
#include "fs_fake_store.h"

namespace stablefs {

enum class Backing { fake, memory_device };

inline std::string name_of(const Status& status) {
  return status.ok() ? "ok" : status.error().name();
}
template <class T>
std::string name_of(const Result<T>& result) {
  return result.ok() ? "ok" : result.error().name();
}

class TestFs {
 public:
  explicit TestFs(Backing backing = Backing::fake, uint64_t device_blocks = 16384)
      : backing_(backing) {
    options.clock = &clock;
    options.logger = &logger;
    options.commit_interval_ns = 3600 * kNsPerSecond;
    options.writeback_delay_ns = 3600 * kNsPerSecond;
    options.atime = AtimePolicy::noatime;
    if (backing == Backing::memory_device) {
      device = std::make_unique<MemoryDevice>(device_blocks);
      FormatOptions format;
      format.uuid = {1};
      format.epoch = {2};
      REQUIRE(name_of(format_device(*device, format)) == "ok");
    }
  }
  ~TestFs() {
    if (fs) unmount();
  }

  void mount() {
    REQUIRE(fs == nullptr);
    FileSystemParts parts;
    if (backing_ == Backing::fake) {
      auto fake_store = std::make_unique<FakeStore>(medium);
      store = fake_store.get();
      parts.store = std::move(fake_store);
      auto fake_data = std::make_unique<FakeData>(*store, medium);
      data = fake_data.get();
      parts.data = std::move(fake_data);
      parts.name_hash = hash;
      fs = std::make_unique<FileSystemImpl>(std::move(parts), options);
      REQUIRE(name_of(fs->start()) == "ok");
      return;
    }
    auto opened = FileSystem::open(*device, options);
    if (!opened.ok()) FAIL(opened.error().message());
    fs.reset(static_cast<FileSystemImpl*>(opened->release()));
  }
  void unmount() {
    const Status closed = fs->close();
    if (!closed.ok()) FAIL_CHECK(closed.error().message());
    fs.reset();
  }
  void remount() {
    unmount();
    mount();
  }
  // Power failure: what the device's cache held is lost, torn or kept as the policy says.
  void power_failure(CrashPolicy policy, uint64_t seed) {
    crash_image(policy, seed);
    fs->stop();
    fs.reset();
    return_after_crash();
  }
  // The same in steps: the moment of the failure, and the device as it comes back.
  void crash_image(CrashPolicy policy, uint64_t seed) {
    Prng prng(seed);
    after_crash_ = device->crash_image(policy, prng);
  }
  void return_after_crash() {
    REQUIRE(fs == nullptr);
    device = std::make_unique<MemoryDevice>(*after_crash_);
  }
  // As after a crash that lost nothing of what was committed.
  void crash() {
    if (backing_ == Backing::memory_device) {
      REQUIRE(name_of(fs->store().sync(fs->store().last_sequence())) == "ok");
    }
    fs->stop();
    fs.reset();
    mount();
  }
  FileSystemImpl* operator->() { return fs.get(); }

  NewFile new_file(uint32_t mode) { return {mode, 1000, 100, 0, 0}; }
  Ino make_directory(Ino parent, const std::string& name) {
    auto made = fs->make_directory(parent, name, new_file(0755));
    if (!made.ok()) FAIL(made.error().message());
    return made->ino;
  }
  Ino make_file(Ino parent, const std::string& name) {
    auto made = fs->make_node(parent, name, new_file(S_IFREG | 0644));
    if (!made.ok()) FAIL(made.error().message());
    return made->ino;
  }
  static BufferSlice payload(std::string_view text) {
    BufferSlice slice(blocks_for_bytes(text.size()) * kBlockSize);
    std::memcpy(slice.writable().data(), text.data(), text.size());
    return slice.slice(0, text.size());
  }
  void write(Ino ino, std::string_view text, uint64_t offset = 0, HandleId handle = 0) {
    auto written = fs->write(ino, handle, offset, payload(text));
    if (!written.ok()) FAIL(written.error().message());
    REQUIRE(*written == text.size());
  }
  std::string read(Ino ino, HandleId handle = 0) {
    std::string out(65536, '?');
    auto done = fs->read(ino, handle, 0, std::as_writable_bytes(std::span(out.data(), out.size())));
    if (!done.ok()) FAIL(done.error().message());
    out.resize(*done);
    return out;
  }
  Ino find(Ino parent, const std::string& name) {
    auto found = fs->lookup(parent, name);
    if (!found.ok()) return Ino(0);
    fs->forget(found->ino, 1);
    return found->ino;
  }
  Attributes attributes(Ino ino) {
    auto got = fs->get_attributes(ino);
    if (!got.ok()) FAIL(got.error().message());
    return *got;
  }
  std::vector<DirectoryEntry> list(Ino ino, uint64_t after = 0, size_t limit = SIZE_MAX) {
    std::vector<DirectoryEntry> entries;
    auto done =
        fs->read_directory(ino, after, false, [&](const DirectoryEntry& entry, const Attributes*) {
          if (entries.size() == limit) return false;
          entries.push_back(entry);
          return true;
        });
    if (!done.ok()) FAIL(done.error().message());
    return entries;
  }
  std::vector<std::string> names(Ino ino) {
    std::vector<std::string> all;
    for (const DirectoryEntry& entry : list(ino)) {
      if (entry.name != "." && entry.name != "..") all.push_back(entry.name);
    }
    std::sort(all.begin(), all.end());
    return all;
  }

  // Unmounted: what fsck says, every data block verified; "" when the filesystem is clean.
  std::string fsck() {
    std::string said;
    CheckOptions check_options;
    check_options.verify_data = true;
    check_options.report = [&said](const Problem& problem) { said += problem.text() + "\n"; };
    auto report = check_filesystem(*device, check_options, clock, logger);
    if (!report.ok()) return report.error().message();
    if (!report->clean() && said.empty()) return "not clean";
    return said;
  }

  // Every invariant that items of names owe each other; what is wrong, or "".
  std::string check();

  SystemClock clock;
  NullLogger logger;
  FileSystemOptions options;
  NameHash hash = [](std::string_view name) {
    static const uint8_t seed[16] = {1, 2, 3};
    return dirent_hash(seed, name);
  };
  FakeMedium medium;
  FakeStore* store = nullptr;  // fakes only
  FakeData* data = nullptr;
  std::unique_ptr<MemoryDevice> device;
  std::unique_ptr<FileSystemImpl> fs;

 private:
  const Backing backing_;
  std::optional<MemoryImage> after_crash_;
};

inline std::string TestFs::check() {
  struct Seen {
    DiskInode item;
    uint64_t names = 0, subdirectories = 0, entries = 0;
  };
  std::map<uint64_t, Seen> inodes;
  std::map<uint64_t, bool> orphans;
  const auto items = fs->store().scan(Key::minimum(), Key::maximum(), SIZE_MAX);
  if (!items.ok()) return items.error().message();
  for (const Item& item : *items) {
    if (item.key.kind == static_cast<uint8_t>(ItemKind::inode)) {
      std::memcpy(&inodes[item.key.object].item, item.value.data(), sizeof(DiskInode));
    }
    if (item.key.kind == static_cast<uint8_t>(ItemKind::orphan)) orphans[item.key.offset] = true;
  }
  for (const Item& item : *items) {
    const std::string key = key_to_text(item.key);
    if (item.key.kind == static_cast<uint8_t>(ItemKind::inline_data)) {
      if (!inodes.contains(item.key.object)) return key + ": contents of nobody";
    }
    if (item.key.kind != static_cast<uint8_t>(ItemKind::dirent)) continue;
    if (!inodes.contains(item.key.object)) return key + ": entry of nobody";
    DiskDirent dirent;
    std::memcpy(&dirent, item.value.data(), sizeof dirent);
    if (!inodes.contains(dirent.ino)) return key + ": leads nowhere";
    Seen& directory = inodes[item.key.object];
    Seen& child = inodes[dirent.ino];
    ++child.names;
    ++directory.entries;
    if (dirent.type != (child.item.mode & S_IFMT) >> 12) return key + ": wrong type";
    if ((child.item.mode & S_IFMT) != S_IFDIR) continue;
    ++directory.subdirectories;
    if (child.item.parent != item.key.object) return key + ": wrong parent";
  }
  for (const auto& [ino, seen] : inodes) {
    const std::string text = "inode " + std::to_string(ino);
    const bool is_directory = (seen.item.mode & S_IFMT) == S_IFDIR;
    const uint64_t links = is_directory ? 2 + seen.subdirectories : seen.names;
    if (seen.item.link_count != links) return text + ": wrong link count";
    if (is_directory && seen.item.size_bytes != seen.entries * 32) return text + ": wrong size";
    if (is_directory && seen.names != (ino == kRootIno.value ? 0 : 1)) return text + ": names";
    if (!is_directory && (seen.names == 0) != orphans.contains(ino)) return text + ": orphan";
  }
  return "";
}

}  // namespace stablefs
