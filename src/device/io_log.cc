// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/io_log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <system_error>

#include "base/endian.h"

namespace stablefs {
namespace {

constexpr char kMagic[8] = {'S', 'F', 'S', 'I', 'O', 'L', 'O', 'G'};
constexpr uint32_t kVersion = 1;
constexpr uint8_t kFlagFua = 1;
constexpr uint8_t kFlagFailed = 2;

struct Header {
  char magic[8];
  le32 version;
  le32 block_size;
  le64 block_count;
};
static_assert(sizeof(Header) == 24);

struct Record {
  uint8_t kind;
  uint8_t op;
  uint8_t flags;
  uint8_t reserved;
  le32 checksum;
  le64 request;
  le64 lba;
  le64 length_blocks;
  le64 payload_bytes;
};
static_assert(sizeof(Record) == 40 && offsetof(Record, request) == 8);

uint32_t checksum_of(Record record, std::span<const std::byte> payload) {
  record.checksum = 0;
  return crc32c(crc32c(0, std::as_bytes(std::span(&record, 1))), payload);
}

std::vector<std::byte> serialise_header(uint64_t block_count) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.block_size = kBlockSize;
  header.block_count = block_count;
  const auto bytes = std::as_bytes(std::span(&header, 1));
  return {bytes.begin(), bytes.end()};
}

void serialise_event(const IoEvent& event, std::vector<std::byte>& out) {
  Record record{};
  record.kind = static_cast<uint8_t>(event.kind);
  record.op = static_cast<uint8_t>(event.op);
  record.flags =
      static_cast<uint8_t>((event.fua ? kFlagFua : 0) | (event.failed ? kFlagFailed : 0));
  record.request = event.request;
  record.lba = event.lba.value;
  record.length_blocks = event.length_blocks;
  record.payload_bytes = event.payload.size();
  record.checksum = checksum_of(record, event.payload);
  const auto bytes = std::as_bytes(std::span(&record, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
  out.insert(out.end(), event.payload.begin(), event.payload.end());
}

Error invalid(uint64_t offset_bytes, const char* what) {
  return Error(ErrorCode::invalid_argument,
               fmt::format("I/O log, at byte {}: {}", offset_bytes, what));
}

const char* fault_of(const Record& record, uint64_t block_count) {
  if (record.kind < 1 || record.kind > 4) return "unknown kind of event";
  if (record.op > static_cast<uint8_t>(DeviceOp::write_zeroes)) return "unknown operation";
  if (record.flags > (kFlagFua | kFlagFailed) || record.reserved != 0) return "unknown flags";
  if (record.lba > block_count) return "address beyond the device";
  if (record.length_blocks > block_count - record.lba) return "length beyond the device";
  const bool is_write = record.op == static_cast<uint8_t>(DeviceOp::write);
  const bool is_base = record.kind == static_cast<uint8_t>(IoEventKind::base);
  const bool carries_data =
      is_base || (is_write && record.kind == static_cast<uint8_t>(IoEventKind::submit));
  if ((record.flags & kFlagFua) != 0 && !is_write) return "FUA on what is no write";
  const bool is_mark = record.kind == static_cast<uint8_t>(IoEventKind::mark);
  const bool whole = record.payload_bytes == record.length_blocks * kBlockSize;
  if (carries_data && !whole) return "data does not match the length";
  if (!carries_data && !is_mark && record.payload_bytes != 0) return "unexpected payload";
  return nullptr;
}

IoEvent event_of(const Record& record, std::span<const std::byte> payload) {
  IoEvent event;
  event.kind = static_cast<IoEventKind>(record.kind);
  event.op = static_cast<DeviceOp>(record.op);
  event.fua = (record.flags & kFlagFua) != 0;
  event.failed = (record.flags & kFlagFailed) != 0;
  event.request = record.request;
  event.lba = Lba(record.lba);
  event.length_blocks = record.length_blocks;
  event.payload.assign(payload.begin(), payload.end());
  return event;
}

}  // namespace

std::string IoEvent::text() const {
  return {reinterpret_cast<const char*>(payload.data()), payload.size()};
}

MemoryImage base_of(const IoLog& log) {
  MemoryImage image(log.block_count);
  for (const IoEvent& event : log.events) {
    if (event.kind != IoEventKind::base) break;
    image.write(event.lba, event.payload);
  }
  return image;
}

std::vector<std::byte> serialise_io_log(const IoLog& log) {
  auto out = serialise_header(log.block_count);
  for (const IoEvent& event : log.events) serialise_event(event, out);
  return out;
}

Result<IoLog> parse_io_log(std::span<const std::byte> bytes) {
  Header header;
  if (bytes.size() < sizeof header) return invalid(0, "too short for a header");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return invalid(0, "wrong magic");
  if (header.version != kVersion) return invalid(8, "unknown version");
  if (header.block_size != kBlockSize) return invalid(12, "unknown block size");
  const uint64_t max_blocks = UINT64_MAX / kBlockSize;
  if (header.block_count > max_blocks) return invalid(16, "impossible device size");

  IoLog log;
  log.block_count = header.block_count;
  uint64_t offset_bytes = sizeof header;
  while (bytes.size() - offset_bytes >= sizeof(Record)) {
    Record record;
    std::memcpy(&record, bytes.data() + offset_bytes, sizeof record);
    if (const char* fault = fault_of(record, log.block_count)) return invalid(offset_bytes, fault);
    const bool is_base = record.kind == static_cast<uint8_t>(IoEventKind::base);
    if (is_base && !log.events.empty() && log.events.back().kind != IoEventKind::base) {
      return invalid(offset_bytes, "contents from before the recording come too late");
    }
    const uint64_t left_bytes = bytes.size() - offset_bytes - sizeof record;
    if (record.payload_bytes > left_bytes) break;
    const auto payload = bytes.subspan(offset_bytes + sizeof record, record.payload_bytes);
    if (record.checksum != checksum_of(record, payload)) {
      return invalid(offset_bytes, "wrong checksum");
    }
    log.events.push_back(event_of(record, payload));
    offset_bytes += sizeof record + record.payload_bytes;
  }
  return log;
}

FileIoLog::FileIoLog(int fd, uint64_t block_count) : fd_(fd) {
  write_all(serialise_header(block_count));
}

FileIoLog::~FileIoLog() {
  close(fd_);
}

void FileIoLog::append(IoEvent event) {
  std::vector<std::byte> bytes;
  bytes.reserve(sizeof(Record) + event.payload.size());
  serialise_event(event, bytes);
  write_all(bytes);
}

Status FileIoLog::sync() {
  // EINVAL: not a file, there is nothing to sync.
  if (status_.ok() && fsync(fd_) != 0 && errno != EINVAL) {
    status_ = Error(ErrorCode::device_flush, "I/O log: " + std::system_category().message(errno));
  }
  return status_;
}

// After the first failure nothing more is written: the log stays a readable prefix.
void FileIoLog::write_all(std::span<const std::byte> bytes) {
  while (status_.ok() && !bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      status_ = Error(ErrorCode::device_write,
                      "I/O log: " + std::system_category().message(written < 0 ? errno : EIO));
      return;
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

}  // namespace stablefs
