// SPDX-License-Identifier: GPL-2.0-or-later
// Journal batches and records: building, validating, walking. Plain functions on memory.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "format/key.h"
#include "format/ondisk.h"
#include "integrity/tuple.h"

namespace stablefs {

struct BatchInfo {
  uint8_t epoch[16];
  Sequence first;  // empty batch: first == last + 1
  Sequence last;
  Sequence flushed;
  uint32_t previous_checksum;
};

// Fills the header at the start of `batch` (whole blocks; records already in place behind the
// header, the rest zero) and returns the checksum, which is the next batch's previous_checksum.
uint32_t seal_batch(std::span<std::byte> batch, const BatchInfo& info, uint32_t record_bytes,
                    uint32_t record_count);

// Checks a header alone: magic, epoch, lengths. batch_invalid when it is not a batch of `epoch`.
Result<DiskBatchHeader> parse_batch_header(std::span<const std::byte> block,
                                           const uint8_t epoch[16], uint64_t ring_blocks);
// Checks the whole batch: checksum, records' framing, sequence numbers, operands.
Status validate_batch(std::span<const std::byte> batch);

// One operation of a record.
struct JournalOperation {
  JournalOp op;
  Key key;                           // put, erase
  std::span<const std::byte> value;  // put; data_checksums: n x le32
  BlockRange range;                  // allocate, free, data_checksums
};

// Calls `visit` for every operation of a validated record body (bytes after the record header).
Status for_each_operation(std::span<const std::byte> body, uint32_t op_count,
                          const std::function<Status(const JournalOperation&)>& visit);
// Calls `visit` for every record of a validated batch.
Status for_each_record(
    std::span<const std::byte> batch,
    const std::function<Status(Sequence, uint32_t op_count, std::span<const std::byte>)>& visit);

// Appends one operation to a record under construction.
void append_put(std::vector<std::byte>& body, const Key& key, std::span<const std::byte> value);
void append_erase(std::vector<std::byte>& body, const Key& key);
void append_range(std::vector<std::byte>& body, JournalOp op, BlockRange range);
// `checksums`: one per block of `range`.
void append_data_checksums(std::vector<std::byte>& body, BlockRange range,
                           std::span<const uint32_t> checksums);

std::string batch_to_text(const DiskBatchHeader& header);
std::string operation_to_text(const JournalOperation& operation,
                              Interval interval = Interval::block_4096);

}  // namespace stablefs
