// SPDX-License-Identifier: GPL-2.0-or-later
// The daemon behind one mount, from taking the device to letting go of it.
//
//   device taken exclusively -> journal replayed -> mount(2) -> INIT answered on our descriptor ->
//   ready -> served -> DESTROY (or the connection's end) -> everything durable -> device let go
//
// The main thread serves no requests: it waits for signals, and on one it unmounts, which may wait
// for the threads that do serve. With errors=abort an error ends the process on the spot: the
// kernel then answers ENOTCONN, which no reply of ours could.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/log.h"
#include "device/delaying_device.h"
#include "device/faulty_device.h"
#include "device/open.h"
#include "device/verifying_device.h"
#include "fs/file_system.h"
#include "fuse/adapter.h"
#include "fuse/session.h"
#include "tools/background.h"
#include "tools/io_recording.h"
#include "tools/mount_options.h"

namespace stablefs {

struct MountRequest {
  std::string source;       // as given, for the list of mounts
  std::string source_path;  // canonical
  std::string directory;    // canonical
  MountOptions options;
};

class MountDaemon {
 public:
  MountDaemon(const MountRequest& request, Logger& logger) : request_(request), logger_(logger) {}
  ~MountDaemon();

  // Returns when the filesystem is unmounted: the exit status. What went wrong before it was ready
  // goes to the report only.
  int run(StartReport& report, int failure_status);

 private:
  Status start();
  Status open_filesystem();
  Result<BlockDevice*> open_device();
  Status attach();
  Status attach_privileged(int fuse_descriptor);
  Status mount_image(int fuse_descriptor, const struct MountPoint& mount);
  void undo_start();
  void serve();
  void unmount_everywhere();
  void close_filesystem();
  void tell_abort();
  void end_recording();
  void drop_device();
  void warn_if_unsafe();
  std::string info() const;

  const MountRequest request_;
  Logger& logger_;
  SystemClock clock_{SystemClock::WallTime::ticks};
  std::unique_ptr<SourceDevice> device_;
  // Around the device, from the inside out; each is there only if asked for.
  std::unique_ptr<IoRecording> recording_;
  std::unique_ptr<VerifyingDevice> verifying_;
  std::unique_ptr<FaultyDevice> faulty_;
  std::unique_ptr<DelayingDevice> delaying_;
  std::unique_ptr<FileSystem> fs_;
  std::unique_ptr<Adapter> adapter_;
  std::unique_ptr<Session> session_;
  int signals_ = -1;
  int abort_descriptor_ = -1;  // readable once the filesystem has ended itself (errors=abort)
  bool privileged_ = false;
  bool attached_ = false;
  dev_t mount_device_ = 0;
  bool close_failed_ = false;
};

}  // namespace stablefs
