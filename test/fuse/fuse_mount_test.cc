// SPDX-License-Identifier: GPL-2.0-or-later
// The fuse layer under the real kernel, on a filesystem in memory. Needs root and /dev/fuse; exits
// 77 (skipped) without.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "catch_runner.h"
#include "fake_file_system.h"
#include "fuse/adapter.h"
#include "fuse/kernel_mount.h"
#include "fuse/session.h"
#include "stablefs/control.h"

namespace stablefs {
namespace {

namespace stdfs = std::filesystem;

struct Mounted {
  explicit Mounted(CacheMode cache, const std::string& loop = {}) {
    char name[] = "/tmp/stablefs-fuse-test-XXXXXX";
    directory = ::mkdtemp(name);
    AdapterOptions options;
    options.cache = cache;
    options.info = [] { return std::string("{\"pid\":1}"); };
    options.destroy = [this] { (void)fs.close().ok(); };
    adapter = std::make_unique<Adapter>(fs, options);
    const int descriptor = open_fuse_descriptor().value();
    session = Session::create(*adapter, descriptor, {}, logger).value();
    MountPoint point;
    point.source = loop.empty() ? "fake" : loop;
    point.directory = directory;
    point.block_device = !loop.empty();
    mount_descriptor(descriptor, point).value();
    session->start(5000).value();
  }
  ~Mounted() {
    if (!unmounted) unmount();
    ::rmdir(directory.c_str());
  }
  Session::End unmount() {
    unmounted = true;
    if (::umount2(directory.c_str(), 0) != 0) ::umount2(directory.c_str(), MNT_DETACH);
    return session->wait();
  }
  std::string path(const std::string& name) const { return directory + "/" + name; }

  StderrLogger logger;
  FakeFileSystem fs;
  std::string directory;
  std::unique_ptr<Adapter> adapter;
  std::unique_ptr<Session> session;
  bool unmounted = false;
};

struct Descriptor {
  Descriptor(const std::string& path, int flags, mode_t mode = 0644)
      : value(::open(path.c_str(), flags, mode)) {
    INFO(path << ": " << std::strerror(errno));
    REQUIRE(value >= 0);
  }
  ~Descriptor() { ::close(value); }
  int value;
};

std::string pattern(size_t length, unsigned seed) {
  std::string out(length, '\0');
  for (size_t i = 0; i < length; ++i) out[i] = static_cast<char>((i * 31 + i / 4096 * 7 + seed));
  return out;
}

void write_file(const std::string& path, const std::string& content) {
  Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC);
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t n = ::write(file.value, content.data() + done, content.size() - done);
    REQUIRE(n > 0);
    done += static_cast<size_t>(n);
  }
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

const CacheMode kModes[] = {CacheMode::kernel, CacheMode::through, CacheMode::daemon};

TEST_CASE("files written through the mount read back, with every payload page-aligned") {
  const CacheMode cache = GENERATE(from_range(std::begin(kModes), std::end(kModes)));
  Mounted mounted(cache);
  mounted.fs.adopt_payloads();
  const std::string content = pattern(5'000'123, 1);
  write_file(mounted.path("a"), content);
  write_file(mounted.path("small"), "x");
  CHECK(read_file(mounted.path("a")) == content);
  CHECK(read_file(mounted.path("small")) == "x");
  {
    Descriptor file(mounted.path("a"), O_RDWR);
    REQUIRE(::pwrite(file.value, "hello", 5, 4093) == 5);
    REQUIRE(::fsync(file.value) == 0);
  }
  std::string expected = content;
  expected.replace(4093, 5, "hello");
  CHECK(read_file(mounted.path("a")) == expected);
  const auto seen = mounted.fs.observations();
  CHECK(seen.writes > 0);
  CHECK(seen.unaligned_writes == 0);
  CHECK(seen.adopted_writes > 0);
  CHECK(seen.fsyncs == 1);
}

TEST_CASE("a write that ends short is told: by its count, or by fsync where the kernel caches") {
  const CacheMode cache = GENERATE(from_range(std::begin(kModes), std::end(kModes)));
  Mounted mounted(cache);
  constexpr uint64_t kFullFrom = 300 << 10;
  mounted.fs.full_from(kFullFrom);
  Descriptor file(mounted.path("f"), O_RDWR | O_CREAT);
  const std::string content(1 << 20, 'x');
  const ssize_t written = ::write(file.value, content.data(), content.size());
  if (cache == CacheMode::kernel) {
    REQUIRE(written == static_cast<ssize_t>(content.size()));
    CHECK(::fsync(file.value) == -1);
    CHECK(errno == ENOSPC);
  } else {
    CHECK(written == static_cast<ssize_t>(kFullFrom));
    CHECK(::fsync(file.value) == 0);
  }
}

TEST_CASE("shared writable mappings work in every cache mode") {
  const CacheMode cache = GENERATE(from_range(std::begin(kModes), std::end(kModes)));
  Mounted mounted(cache);
  write_file(mounted.path("m"), std::string(64 << 10, 'a'));
  Descriptor file(mounted.path("m"), O_RDWR);
  auto* memory = static_cast<char*>(
      ::mmap(nullptr, 64 << 10, PROT_READ | PROT_WRITE, MAP_SHARED, file.value, 0));
  REQUIRE(memory != MAP_FAILED);
  CHECK(memory[5000] == 'a');
  memory[5000] = 'b';
  REQUIRE(::msync(memory, 64 << 10, MS_SYNC) == 0);
  char byte = 0;
  REQUIRE(::pread(file.value, &byte, 1, 5000) == 1);
  CHECK(byte == 'b');
  REQUIRE(::munmap(memory, 64 << 10) == 0);
}

TEST_CASE("O_TRUNC on open reaches the filesystem") {
  const CacheMode cache = GENERATE(from_range(std::begin(kModes), std::end(kModes)));
  Mounted mounted(cache);
  write_file(mounted.path("t"), "old content");
  write_file(mounted.path("t"), "new");
  CHECK(read_file(mounted.path("t")) == "new");
  // Not by the OPEN itself: see ATOMIC_O_TRUNC in the adapter.
  CHECK(mounted.fs.observations().truncating_opens == 0);
}

TEST_CASE("names: directories, links, renames, removal, listing") {
  Mounted mounted(CacheMode::kernel);
  REQUIRE(::mkdir(mounted.path("d").c_str(), 0755) == 0);
  for (int i = 0; i < 3000; ++i) write_file(mounted.path("d/" + std::to_string(i)), "");
  std::set<std::string> names;
  for (const auto& entry : stdfs::directory_iterator(mounted.path("d"))) {
    CHECK(names.insert(entry.path().filename()).second);
  }
  CHECK(names.size() == 3000);
  REQUIRE(::link(mounted.path("d/1").c_str(), mounted.path("l").c_str()) == 0);
  CHECK(stdfs::hard_link_count(mounted.path("d/1")) == 2);
  REQUIRE(::unlink(mounted.path("l").c_str()) == 0);
  CHECK(stdfs::hard_link_count(mounted.path("d/1")) == 1);
  REQUIRE(::symlink("target", mounted.path("s").c_str()) == 0);
  CHECK(stdfs::read_symlink(mounted.path("s")) == "target");
  REQUIRE(::rename(mounted.path("d/2").c_str(), mounted.path("two").c_str()) == 0);
  CHECK(!stdfs::exists(mounted.path("d/2")));
  CHECK(::renameat2(AT_FDCWD, mounted.path("two").c_str(), AT_FDCWD, mounted.path("d/3").c_str(),
                    RENAME_NOREPLACE) == -1);
  CHECK(errno == EEXIST);
  CHECK(::renameat2(AT_FDCWD, mounted.path("two").c_str(), AT_FDCWD, mounted.path("d/3").c_str(),
                    RENAME_EXCHANGE) == 0);
  CHECK(::rmdir(mounted.path("d").c_str()) == -1);
  CHECK(errno == ENOTEMPTY);
  CHECK(stdfs::remove_all(mounted.path("d")) > 2000);
  // The kernel passes names up to 1024 bytes on.
  CHECK(::mkdir(mounted.path(std::string(256, 'n')).c_str(), 0755) == -1);
  CHECK(errno == ENAMETOOLONG);
  CHECK(::mkdir(mounted.path(std::string(255, 'n')).c_str(), 0755) == 0);
}

TEST_CASE("what is made in a setgid directory gets its group, and directories the bit") {
  Mounted mounted(CacheMode::kernel);
  REQUIRE(::mkdir(mounted.path("g").c_str(), 0755) == 0);
  REQUIRE(::chown(mounted.path("g").c_str(), 0, 1234) == 0);
  REQUIRE(::chmod(mounted.path("g").c_str(), 02755) == 0);
  write_file(mounted.path("g/f"), "");
  REQUIRE(::mkdir(mounted.path("g/d").c_str(), 0700) == 0);
  struct stat st {};
  REQUIRE(::stat(mounted.path("g/f").c_str(), &st) == 0);
  CHECK(st.st_gid == 1234);
  CHECK((st.st_mode & 07777) == 0644);
  REQUIRE(::stat(mounted.path("g/d").c_str(), &st) == 0);
  CHECK(st.st_gid == 1234);
  CHECK((st.st_mode & 07777) == 02700);
}

TEST_CASE("attributes: times to the nanosecond, modes, devices, birth time, block counts") {
  Mounted mounted(CacheMode::kernel);
  write_file(mounted.path("f"), std::string(10'000, 'x'));
  const timespec times[2] = {{1'000'000'001, 123'456'789}, {-5, 999'999'999}};
  REQUIRE(::utimensat(AT_FDCWD, mounted.path("f").c_str(), times, 0) == 0);
  struct stat st {};
  REQUIRE(::stat(mounted.path("f").c_str(), &st) == 0);
  CHECK(st.st_atim.tv_nsec == 123'456'789);
  CHECK(st.st_mtim.tv_sec == -5);
  CHECK(st.st_mtim.tv_nsec == 999'999'999);
  // The kernel counts no blocks of its own: it must have asked again after the close.
  CHECK(st.st_blocks == 3 * 8);
  REQUIRE(::mknod(mounted.path("null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0);
  REQUIRE(::stat(mounted.path("null").c_str(), &st) == 0);
  CHECK(st.st_rdev == makedev(1, 3));
  struct statx out {};
  REQUIRE(::statx(AT_FDCWD, mounted.path("f").c_str(), 0, STATX_ALL, &out) == 0);
  CHECK((out.stx_mask & STATX_BTIME) != 0);
  CHECK(out.stx_btime.tv_sec > 1'500'000'000);
  CHECK(out.stx_size == 10'000);
  struct statvfs vfs {};
  REQUIRE(::statvfs(mounted.directory.c_str(), &vfs) == 0);
  CHECK(vfs.f_blocks == 1000);
  CHECK(vfs.f_bavail == 500);
  CHECK(vfs.f_namemax == 255);
}

TEST_CASE("fsync lets the block count be seen while the file is still open") {
  Mounted mounted(CacheMode::kernel);
  Descriptor file(mounted.path("f"), O_RDWR | O_CREAT);
  const std::string content(64 << 10, 'x');
  REQUIRE(::write(file.value, content.data(), content.size()) ==
          static_cast<ssize_t>(content.size()));
  REQUIRE(::fsync(file.value) == 0);
  struct stat st {};
  REQUIRE(::fstat(file.value, &st) == 0);
  CHECK(st.st_blocks == 128);
}

TEST_CASE("a write by somebody without privileges takes setuid away, and stat shows it") {
  const CacheMode cache = GENERATE(from_range(std::begin(kModes), std::end(kModes)));
  Mounted mounted(cache);
  ::chmod(mounted.directory.c_str(), 0777);
  write_file(mounted.path("suid"), "content");
  REQUIRE(::chmod(mounted.path("suid").c_str(), 06777) == 0);
  struct stat st {};
  REQUIRE(::stat(mounted.path("suid").c_str(), &st) == 0);
  REQUIRE((st.st_mode & 07777) == 06777);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(1);
    const int file = ::open(mounted.path("suid").c_str(), O_WRONLY);
    ::_exit(file >= 0 && ::write(file, "X", 1) == 1 ? 0 : 1);
  }
  int status = 1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  REQUIRE(::stat(mounted.path("suid").c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0777);
}

TEST_CASE("statistics and facts come out of the root's attributes only") {
  Mounted mounted(CacheMode::kernel);
  write_file(mounted.path("f"), "");
  std::string value(65536, '\0');
  const ssize_t length =
      ::getxattr(mounted.directory.c_str(), kControlStats, value.data(), value.size());
  REQUIRE(length > 0);
  value.resize(static_cast<size_t>(length));
  const auto json = nlohmann::json::parse(value);
  CHECK(json.at("fake.answer") == 42);
  CHECK(json.at("fuse.create") == 1);
  CHECK(json.at("fuse.requests") > 3);
  char tiny[4];
  CHECK(::getxattr(mounted.directory.c_str(), kControlStats, tiny, sizeof tiny) == -1);
  CHECK(errno == ERANGE);
  CHECK(::getxattr(mounted.path("f").c_str(), kControlStats, tiny, sizeof tiny) == -1);
  CHECK(errno == ENOTSUP);
}

TEST_CASE("the shutdown ioctl stops the filesystem, other ioctls are refused") {
  Mounted mounted(CacheMode::through);
  write_file(mounted.path("f"), "");
  Descriptor file(mounted.path("f"), O_RDWR);
  uint32_t argument = 0;
  CHECK(::ioctl(file.value, _IOR('X', 100, uint32_t), &argument) == -1);
  CHECK(errno == ENOTTY);
  REQUIRE(::ioctl(file.value, _IOR('X', 125, uint32_t), &argument) == 0);
  CHECK(::write(file.value, "x", 1) == -1);
  CHECK(errno == EIO);
}

TEST_CASE("many threads at once see their own bytes") {
  const CacheMode cache = GENERATE(from_range(std::begin(kModes), std::end(kModes)));
  Mounted mounted(cache);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (unsigned t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned round = 0; round < 20; ++round) {
        const std::string path = mounted.path("t" + std::to_string(t));
        const std::string content = pattern(10'000 + 40'000 * t, t * 100 + round);
        std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
        if (read_file(path) != content) ++wrong;
        if (::rename(path.c_str(), (path + "r").c_str()) != 0) ++wrong;
        if (::unlink((path + "r").c_str()) != 0) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("plain fuse: the end of the mount ends the session without DESTROY") {
  Mounted mounted(CacheMode::kernel);
  write_file(mounted.path("f"), "content");
  CHECK(mounted.unmount() == Session::End::disconnected);
  CHECK_FALSE(mounted.fs.observations().closed);
}

TEST_CASE("lookups counted and forgotten are equal when the mount is gone") {
  Mounted mounted(CacheMode::kernel);
  for (int i = 0; i < 500; ++i) write_file(mounted.path("f" + std::to_string(i)), "");
  for (int round = 0; round < 3; ++round) {
    for (const auto& entry : stdfs::directory_iterator(mounted.directory)) {
      CHECK(stdfs::file_size(entry.path()) == 0);
    }
    REQUIRE(std::system("echo 2 > /proc/sys/vm/drop_caches") == 0);
  }
  for (int i = 0; i < 500; ++i) {
    REQUIRE(::unlink(mounted.path("f" + std::to_string(i)).c_str()) == 0);
  }
  // FORGETs of unlinked inodes are sent at once; the session serves them in the background.
  for (int tries = 0; tries < 100; ++tries) {
    const auto seen = mounted.fs.observations();
    if (seen.lookups_counted == seen.forgotten) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const auto seen = mounted.fs.observations();
  CHECK(seen.lookups_counted == seen.forgotten);
}

// A loop device over a sparse file; empty when there are none.
struct Loop {
  Loop() {
    REQUIRE(std::system("truncate -s 16M /tmp/stablefs-fuse-test.img") == 0);
    FILE* pipe = ::popen("losetup -f --show /tmp/stablefs-fuse-test.img 2>/dev/null", "r");
    char line[64] = "";
    if (::fgets(line, sizeof line, pipe) != nullptr) device = line;
    ::pclose(pipe);
    if (!device.empty()) device.pop_back();
  }
  ~Loop() {
    if (!device.empty()) (void)!std::system(("losetup -d " + device).c_str());
    ::unlink("/tmp/stablefs-fuse-test.img");
  }
  std::string device;
};

TEST_CASE("fuseblk: syncfs and umount wait for the filesystem") {
  Loop loop;
  if (loop.device.empty()) {
    WARN("no loop device");
    return;
  }
  Mounted mounted(CacheMode::kernel, loop.device);
  write_file(mounted.path("f"), pattern(3 << 20, 9));
  {
    Descriptor directory(mounted.directory, O_RDONLY | O_DIRECTORY);
    REQUIRE(::syncfs(directory.value) == 0);
    CHECK(mounted.fs.observations().syncs == 1);
    CHECK(mounted.fs.observations().writes >= 3);
  }
  REQUIRE(::umount2(mounted.directory.c_str(), 0) == 0);
  // umount(2) has returned, so it must have been closed already.
  CHECK(mounted.fs.observations().closed);
  mounted.unmounted = true;
  CHECK(mounted.session->wait() == Session::End::destroyed);
}

TEST_CASE("fuseblk: a second daemon on the device learns that it is not the one mounted") {
  Loop loop;
  if (loop.device.empty()) {
    WARN("no loop device");
    return;
  }
  Mounted first(CacheMode::kernel, loop.device);
  char name[] = "/tmp/stablefs-fuse-test-XXXXXX";
  const std::string directory = ::mkdtemp(name);
  FakeFileSystem fs;
  Adapter adapter(fs, {});
  NullLogger logger;
  const int descriptor = open_fuse_descriptor().value();
  auto session = Session::create(adapter, descriptor, {}, logger).value();
  MountPoint point;
  point.source = loop.device;
  point.directory = directory;
  point.block_device = true;
  REQUIRE(mount_descriptor(descriptor, point).ok());
  CHECK_FALSE(session->start(3000).ok());
  REQUIRE(::umount2(directory.c_str(), 0) == 0);
  session->wait();
  ::rmdir(directory.c_str());
  write_file(first.path("f"), "alive");
  CHECK(read_file(first.path("f")) == "alive");
}

}  // namespace
}  // namespace stablefs

int main(int argc, char** argv) {
  if (::geteuid() != 0 || ::access("/dev/fuse", R_OK | W_OK) != 0) return 77;
  return run_catch(argc, argv);
}
