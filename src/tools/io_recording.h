// SPDX-License-Identifier: GPL-2.0-or-later
// mount -o iolog=FILE: a file that holds what the source held at first and everything that is sent
// to it from then on, for `stablefs crashtest`. Each event is written to the file when it happens,
// so nothing of it is kept in memory, and what a killed daemon left can be used.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "device/io_log.h"
#include "device/open.h"
#include "device/recording_device.h"

namespace stablefs {

class IoRecording {
 public:
  // Makes the file, which must not exist yet, and copies into it every block of `source` that is
  // not zeros. `source` must outlive the recording.
  static Result<std::unique_ptr<IoRecording>> start(const std::string& path, SourceDevice& source);
  IoRecording(const IoRecording&) = delete;
  IoRecording& operator=(const IoRecording&) = delete;

  BlockDevice& device() { return device_; }
  void mark(std::string_view text) { device_.mark(text); }
  // When nothing is sent to device() any more: the file is durable, or what kept it from being
  // complete.
  Status finish() { return log_.sync(); }
  // The recording is of no use to anybody.
  void remove_file();

 private:
  IoRecording(std::string path, int descriptor, SourceDevice& source)
      : path_(std::move(path)), log_(descriptor, source.block_count()), device_(source, log_) {}

  const std::string path_;
  FileIoLog log_;
  RecordingDevice device_;
};

// Where FILE of -o iolog=FILE is, whatever directory the daemon works in. An error when it exists
// already, or its directory does not.
Result<std::string> resolve_iolog_path(const std::string& file);

// Whether the path, a canonical one, is `directory` or below it.
bool lies_below(const std::string& path, const std::string& directory);

}  // namespace stablefs
