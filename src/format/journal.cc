// SPDX-License-Identifier: GPL-2.0-or-later
// Journal batches and records on memory: sealing, validation, walking, text.
#include "format/journal.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstring>

#include "base/assert.h"
#include "format/bytes.h"
#include "format/items.h"

namespace stablefs {
namespace {

constexpr uint64_t kMaxBlock = 1ull << 51;  // device addresses fit 63-bit byte offsets

Error bad_batch(const char* what) {
  return Error(ErrorCode::batch_invalid, what);
}
Error bad_record(const char* what) {
  return Error(ErrorCode::record_invalid, what);
}

struct PackedKey {
  le64 object;
  le64 offset;
  uint8_t kind;
};
static_assert(sizeof(PackedKey) == 17);

struct PackedRange {
  le64 lba;
  le32 length_blocks;
};
static_assert(sizeof(PackedRange) == 12);

// Takes typed values off the front of a record body.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }

  template <class T>
  bool take(T& out) {
    if (bytes_.size() < sizeof(T)) return false;
    std::memcpy(&out, bytes_.data(), sizeof(T));
    bytes_ = bytes_.subspan(sizeof(T));
    return true;
  }
  bool take_bytes(size_t length, std::span<const std::byte>& out) {
    if (bytes_.size() < length) return false;
    out = bytes_.first(length);
    bytes_ = bytes_.subspan(length);
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
};

Status take_key(Reader& reader, Key& out) {
  PackedKey packed;
  if (!reader.take(packed)) return bad_record("cut off inside a key");
  if (packed.kind == 0) return bad_record("key without a kind");
  out = Key(packed.object, packed.kind, packed.offset);
  return {};
}

Status take_value(Reader& reader, std::span<const std::byte>& out) {
  le16 length;
  if (!reader.take(length)) return bad_record("cut off inside a put");
  if (length > kMaxValueBytes) return bad_record("value too long");
  if (!reader.take_bytes(length, out)) return bad_record("cut off inside a value");
  return {};
}

Status take_range(Reader& reader, BlockRange& out) {
  PackedRange packed;
  if (!reader.take(packed)) return bad_record("cut off inside a block range");
  if (packed.lba == 0 || packed.length_blocks == 0 ||
      packed.lba > kMaxBlock - packed.length_blocks) {
    return bad_record("impossible block range");
  }
  out = {Lba(packed.lba), packed.length_blocks};
  return {};
}

Result<JournalOperation> take_operation(Reader& reader) {
  uint8_t op = 0;
  if (!reader.take(op)) return bad_record("fewer operations than announced");
  JournalOperation operation{};
  operation.op = static_cast<JournalOp>(op);
  switch (operation.op) {
    case JournalOp::put:
      FS_TRY(take_key(reader, operation.key));
      FS_TRY(take_value(reader, operation.value));
      return operation;
    case JournalOp::erase:
      FS_TRY(take_key(reader, operation.key));
      return operation;
    case JournalOp::allocate:
    case JournalOp::free:
      FS_TRY(take_range(reader, operation.range));
      return operation;
    case JournalOp::data_checksums:
      FS_TRY(take_range(reader, operation.range));
      if (!reader.take_bytes(operation.range.length_blocks * sizeof(le32), operation.value)) {
        return bad_record("cut off inside data checksums");
      }
      return operation;
  }
  return bad_record("unknown operation");
}

uint32_t batch_checksum(std::span<const std::byte> batch, const uint8_t epoch[16]) {
  const uint32_t seed = crc32c(0, std::as_bytes(std::span(epoch, 16)));
  return crc32c_with_hole(seed, batch, offsetof(DiskBatchHeader, checksum));
}

Status validate_header_fields(const DiskBatchHeader& header) {
  if (header.magic != kBatchMagic) return bad_batch("magic number");
  if (!all_zero_bytes(header.reserved)) return bad_batch("reserved bytes are not zero");
  if (header.length_blocks == 0 ||
      header.length_blocks !=
          blocks_for_bytes(sizeof(DiskBatchHeader) + uint64_t{header.record_bytes})) {
    return bad_batch("length");
  }
  const uint64_t first = header.first_sequence;
  const uint64_t last = header.last_sequence;
  if (first == 0 || last >= 1ull << 63 || first > last + 1 ||
      last + 1 - first != header.record_count) {
    return bad_batch("sequence range");
  }
  if (header.flushed_sequence > last) return bad_batch("flushed sequence");
  if (header.record_bytes < uint64_t{header.record_count} * sizeof(DiskRecordHeader) ||
      (header.record_count == 0 && header.record_bytes != 0)) {
    return bad_batch("record count");
  }
  return {};
}

template <class T>
void append(std::vector<std::byte>& body, const T& value) {
  const size_t at = body.size();
  body.resize(at + sizeof(T));
  std::memcpy(body.data() + at, &value, sizeof(T));
}

void append_key(std::vector<std::byte>& body, JournalOp op, const Key& key) {
  append(body, op);
  append(body, PackedKey{key.object, key.offset, key.kind});
}

}  // namespace

uint32_t seal_batch(std::span<std::byte> batch, const BatchInfo& info, uint32_t record_bytes,
                    uint32_t record_count) {
  FS_ASSERT(batch.size() ==
            blocks_for_bytes(sizeof(DiskBatchHeader) + uint64_t{record_bytes}) * kBlockSize);
  FS_ASSERT(info.last.value + 1 - info.first.value == record_count);
  DiskBatchHeader header{};
  header.magic = kBatchMagic;
  std::memcpy(header.epoch, info.epoch, sizeof header.epoch);
  header.first_sequence = info.first.value;
  header.last_sequence = info.last.value;
  header.flushed_sequence = info.flushed.value;
  header.length_blocks = static_cast<uint32_t>(batch.size() / kBlockSize);
  header.record_bytes = record_bytes;
  header.previous_checksum = info.previous_checksum;
  header.record_count = record_count;
  FS_ASSERT(validate_header_fields(header).ok());
  std::memcpy(batch.data(), &header, sizeof header);
  header.checksum = batch_checksum(batch, info.epoch);
  std::memcpy(batch.data(), &header, sizeof header);
  return header.checksum;
}

Result<DiskBatchHeader> parse_batch_header(std::span<const std::byte> block,
                                           const uint8_t epoch[16], uint64_t ring_blocks) {
  if (block.size() < sizeof(DiskBatchHeader)) return bad_batch("cut off inside the header");
  DiskBatchHeader header;
  std::memcpy(&header, block.data(), sizeof header);
  FS_TRY(validate_header_fields(header));
  if (std::memcmp(header.epoch, epoch, sizeof header.epoch) != 0) {
    return bad_batch("of another epoch");
  }
  if (header.length_blocks > ring_blocks) return bad_batch("longer than the journal");
  return header;
}

Status validate_batch(std::span<const std::byte> batch) {
  if (batch.size() < sizeof(DiskBatchHeader)) return bad_batch("cut off inside the header");
  DiskBatchHeader header;
  std::memcpy(&header, batch.data(), sizeof header);
  FS_TRY(validate_header_fields(header));
  if (batch.size() != uint64_t{header.length_blocks} * kBlockSize) return bad_batch("length");
  if (header.checksum != batch_checksum(batch, header.epoch)) return bad_batch("checksum");
  if (!all_zero(batch.subspan(sizeof header + header.record_bytes))) {
    return bad_batch("padding is not zero");
  }
  auto ignore = [](const JournalOperation&) { return Status(); };
  return for_each_record(batch, [&](Sequence, uint32_t op_count, std::span<const std::byte> body) {
    return for_each_operation(body, op_count, ignore);
  });
}

Status for_each_operation(std::span<const std::byte> body, uint32_t op_count,
                          const std::function<Status(const JournalOperation&)>& visit) {
  Reader reader(body);
  for (uint32_t i = 0; i < op_count; ++i) {
    const JournalOperation operation = FS_TRY(take_operation(reader));
    FS_TRY(visit(operation));
  }
  if (!reader.empty()) return bad_record("bytes behind the last operation");
  return {};
}

Status for_each_record(
    std::span<const std::byte> batch,
    const std::function<Status(Sequence, uint32_t op_count, std::span<const std::byte>)>& visit) {
  if (batch.size() < sizeof(DiskBatchHeader)) return bad_batch("cut off inside the header");
  DiskBatchHeader header;
  std::memcpy(&header, batch.data(), sizeof header);
  if (header.record_bytes > batch.size() - sizeof header) return bad_batch("length");
  std::span<const std::byte> rest = batch.subspan(sizeof header, header.record_bytes);
  for (uint32_t i = 0; i < header.record_count; ++i) {
    DiskRecordHeader record;
    if (rest.size() < sizeof record) return bad_record("cut off inside the header");
    std::memcpy(&record, rest.data(), sizeof record);
    if (record.length_bytes < sizeof record || record.length_bytes > rest.size()) {
      return bad_record("length");
    }
    if (record.sequence != header.first_sequence + i) return bad_record("sequence number");
    FS_TRY(visit(Sequence(record.sequence), record.op_count,
                 rest.subspan(sizeof record, record.length_bytes - sizeof record)));
    rest = rest.subspan(record.length_bytes);
  }
  if (!rest.empty()) return bad_record("bytes behind the last record");
  return {};
}

void append_put(std::vector<std::byte>& body, const Key& key, std::span<const std::byte> value) {
  FS_ASSERT(value.size() <= kMaxValueBytes);
  append_key(body, JournalOp::put, key);
  append(body, le16(static_cast<uint16_t>(value.size())));
  body.insert(body.end(), value.begin(), value.end());
}

void append_erase(std::vector<std::byte>& body, const Key& key) {
  append_key(body, JournalOp::erase, key);
}

void append_range(std::vector<std::byte>& body, JournalOp op, BlockRange range) {
  FS_ASSERT(op == JournalOp::allocate || op == JournalOp::free || op == JournalOp::data_checksums);
  FS_ASSERT(range.start.value != 0 && range.length_blocks != 0);
  FS_ASSERT(range.length_blocks <= UINT32_MAX);
  append(body, op);
  append(body, PackedRange{range.start.value, static_cast<uint32_t>(range.length_blocks)});
}

void append_data_checksums(std::vector<std::byte>& body, BlockRange range,
                           std::span<const uint32_t> checksums) {
  FS_ASSERT(checksums.size() == range.length_blocks);
  append_range(body, JournalOp::data_checksums, range);
  for (uint32_t checksum : checksums) append(body, le32(checksum));
}

std::string batch_to_text(const DiskBatchHeader& header) {
  return fmt::format(
      "batch sequences {}..{} flushed {} blocks {} record_bytes {} records {} checksum {:08x} "
      "previous {:08x}",
      uint64_t{header.first_sequence}, uint64_t{header.last_sequence},
      uint64_t{header.flushed_sequence}, uint32_t{header.length_blocks},
      uint32_t{header.record_bytes}, uint32_t{header.record_count}, uint32_t{header.checksum},
      uint32_t{header.previous_checksum});
}

std::string operation_to_text(const JournalOperation& operation, Interval interval) {
  const BlockRange& range = operation.range;
  switch (operation.op) {
    case JournalOp::put:
      return "put " + item_to_text(operation.key, operation.value, interval);
    case JournalOp::erase:
      return "erase " + key_to_text(operation.key);
    case JournalOp::allocate:
      return fmt::format("allocate {}+{}", range.start.value, range.length_blocks);
    case JournalOp::free:
      return fmt::format("free {}+{}", range.start.value, range.length_blocks);
    case JournalOp::data_checksums:
      return fmt::format("data_checksums {}+{}", range.start.value, range.length_blocks);
  }
  return "unknown";
}

}  // namespace stablefs
