// SPDX-License-Identifier: GPL-2.0-or-later
// The log of what was asked of a device and when it was done, and its file format.
//
// File, all little-endian: a header (magic "SFSIOLOG", u32 version, u32 block size, u64 block
// count), then records one after the other in the order they happened. A record: u8 kind, u8
// operation, u8 flags (1: FUA, 2: completed with an error), u8 zero, u32 CRC32C of the whole record
// with this field zero, u64 request number, u64 LBA, u64 length in blocks, u64 payload length in
// bytes; then the payload. Records of a mark carry its text; submit records of a write carry the
// data; base records come before all others and carry what the device held when the recording
// began (blocks without one: zeros). A file that ends inside a record (the recorder was killed) is
// read up to that record.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "device/block_device.h"
#include "device/memory_image.h"

namespace stablefs {

enum class IoEventKind : uint8_t {
  submit = 1,    // the request was handed to the device
  complete = 2,  // its completion, `length_blocks` of it done
  mark = 3,      // a note of the recorder's owner, e.g. "fsync 17 acknowledged"
  base = 4,      // contents from before the recording
};

struct IoEvent {
  IoEventKind kind = IoEventKind::submit;
  DeviceOp op = DeviceOp::read;
  bool fua = false;
  bool failed = false;   // completion with an error
  uint64_t request = 0;  // numbered from 1 in order of submission; joins submit and complete
  Lba lba;
  uint64_t length_blocks = 0;
  std::vector<std::byte> payload;  // data of a write at submit and of a base; text of a mark

  std::string text() const;  // of a mark
};

// Where a recorder puts its events; called under the recorder's lock, one event at a time.
class IoLogSink {
 public:
  virtual ~IoLogSink() = default;
  virtual void append(IoEvent event) = 0;
};

class MemoryIoLog final : public IoLogSink {
 public:
  void append(IoEvent event) override { events_.push_back(std::move(event)); }
  const std::vector<IoEvent>& events() const { return events_; }

 private:
  std::vector<IoEvent> events_;
};

// Appends to a file descriptor. What could not be written is remembered: ask status() at the end.
class FileIoLog final : public IoLogSink {
 public:
  FileIoLog(int fd, uint64_t block_count);  // takes the descriptor
  ~FileIoLog() override;
  FileIoLog(const FileIoLog&) = delete;
  FileIoLog& operator=(const FileIoLog&) = delete;

  void append(IoEvent event) override;
  Status status() const { return status_; }
  // What was appended is on its device when this succeeds.
  Status sync();

 private:
  void write_all(std::span<const std::byte> bytes);

  const int fd_;
  Status status_;
};

struct IoLog {
  uint64_t block_count = 0;
  std::vector<IoEvent> events;
};

// What the device held when the recording began, according to the base events.
MemoryImage base_of(const IoLog& log);

std::vector<std::byte> serialise_io_log(const IoLog& log);
// Every field is checked: events of a returned log lie within the device and payloads fit.
Result<IoLog> parse_io_log(std::span<const std::byte> bytes);

}  // namespace stablefs
