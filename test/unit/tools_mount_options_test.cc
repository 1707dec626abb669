// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/mount.h>

#include <catch2/catch.hpp>

#include "tools/mount_options.h"

namespace stablefs {
namespace {

TEST_CASE("words of mount(8) and fstab(5) become flags or are dropped") {
  const auto options =
      parse_mount_options(
          "rw,nosuid,nodev,noexec,noatime,nodiratime,lazytime,dirsync,nofail,_netdev,defaults,"
          "user=joe,noauto,x-systemd.automount,allow_other,default_permissions,mand,iversion,"
          "fsname=/dev/x,subtype=y")
          .value();
  CHECK(options.flags ==
        (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_LAZYTIME | MS_DIRSYNC));
  CHECK(options.filesystem.atime == AtimePolicy::noatime);
  CHECK_FALSE(options.filesystem.read_only);
  CHECK(options.allow_other);
  CHECK_FALSE(options.remount);
}

TEST_CASE("the last of two contrary words counts") {
  CHECK(parse_mount_options("ro,rw").value().flags == 0);
  CHECK(parse_mount_options("nosuid,suid,dev,nodev").value().flags == MS_NODEV);
  const auto options = parse_mount_options("rw,ro").value();
  CHECK(options.filesystem.read_only);
  CHECK((options.mentioned & MS_RDONLY) != 0);
}

TEST_CASE("our own options are read with their units") {
  const auto options =
      parse_mount_options("cache=daemon,writeback_delay=20,commit=7,dirty_limit=64M").value();
  CHECK(options.filesystem.cache == CacheMode::daemon);
  CHECK(options.filesystem.writeback_delay_ns == 20 * kNsPerMs);
  CHECK(options.filesystem.commit_interval_ns == 7 * kNsPerSecond);
  CHECK(options.filesystem.dirty_limit_bytes == 64ull << 20);
  CHECK(parse_mount_options("cache=through").value().filesystem.cache == CacheMode::through);
  CHECK(parse_mount_options("commit=600").value().filesystem.commit_interval_ns ==
        600 * kNsPerSecond);
}

TEST_CASE("errors= says what follows an error; remount-ro when it is not given") {
  const auto policy = [](const char* words) {
    return parse_mount_options(words).value().filesystem.errors;
  };
  CHECK(policy("") == ErrorPolicy::remount_read_only);
  CHECK(policy("errors=remount-ro") == ErrorPolicy::remount_read_only);
  CHECK(policy("errors=continue") == ErrorPolicy::go_on);
  CHECK(policy("errors=abort") == ErrorPolicy::abort);
}

TEST_CASE("pages hold still unless two words say otherwise") {
  const MountOptions usual = parse_mount_options("rw").value();
  CHECK(usual.filesystem.stable == StablePolicy::automatic);
  CHECK(usual.filesystem.guard);
  CHECK(usual.verify_one_in == 64);
  CHECK(usual.injected_delay_ns == 0);
  CHECK(parse_mount_options("stable=wait").value().filesystem.stable == StablePolicy::wait);
  for (const char* words : {"stable=off", "guard=off", "stable=off,guard=off"}) {
    INFO(words);
    CHECK_FALSE(parse_mount_options(words).ok());
    CHECK(parse_mount_options(std::string(words) + ",unsafe").ok());
    CHECK(parse_mount_options(std::string("unsafe,") + words).ok());
  }
  CHECK_FALSE(parse_mount_options("unsafe,guard=off").value().filesystem.guard);
  const auto one_in = [](const char* words) {
    return parse_mount_options(words).value().verify_one_in;
  };
  CHECK(one_in("verify_dma=1/1") == 1);
  CHECK(one_in("verify_dma=1/1000") == 1000);
  CHECK(one_in("verify_dma=0") == 0);
  CHECK(parse_mount_options("inject_write_errors=7").value().injected_error_one_in == 7);
  CHECK(parse_mount_options("inject_write_delay=5").value().injected_delay_ns == 5 * kNsPerMs);
  for (const char* words : {"stable=", "stable=maybe", "guard=maybe", "verify_dma=",
                            "verify_dma=1/", "verify_dma=2/3", "inject_write_delay=x"}) {
    INFO(words);
    CHECK_FALSE(parse_mount_options(words).ok());
  }
}

TEST_CASE("a recording is made of writable mounts only") {
  CHECK(parse_mount_options("rw,iolog=/tmp/log").value().iolog == "/tmp/log");
  CHECK(parse_mount_options("rw").value().iolog.empty());
  for (const char* words : {"iolog", "iolog=", "iolog=/tmp/log,ro", "ro,iolog=/tmp/log"}) {
    INFO(words);
    CHECK_FALSE(parse_mount_options(words).ok());
  }
}

TEST_CASE("unknown and impossible options are refused, and named") {
  for (const char* words :
       {"bogus", "rw,cache=none", "commit=0", "commit=601", "commit=x", "errors", "errors=panic",
        "dirty_limit=1", "writeback_delay=", "writeback_delay=-1", "ro=1", "rw, ro"}) {
    INFO(words);
    CHECK_FALSE(parse_mount_options(words).ok());
  }
  CHECK(parse_mount_options("rw,bogus").error().message().find("bogus") != std::string::npos);
  CHECK(parse_mount_options("").ok());
  CHECK(parse_mount_options(",,rw,").ok());
}

}  // namespace
}  // namespace stablefs
