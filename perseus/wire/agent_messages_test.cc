// SPDX-License-Identifier: Apache-2.0
#include "perseus/wire/agent_messages.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "perseus/format/text.h"
#include "perseus/wire/agent_limits.h"
#include "tests/support/property.h"

namespace perseus::wire {
namespace {

using core::Megahertz;
using std::chrono::milliseconds;

std::string request_refusal(std::string_view packet) {
  const auto parsed = parse_agent_request(packet);
  return parsed ? "accepted" : parsed.error().text();
}
std::string reply_refusal(std::string_view packet) {
  const auto parsed = parse_agent_reply(packet);
  return parsed ? "accepted" : parsed.error().text();
}

TEST(AgentMessages, RequestsAsTheyStandOnTheWire) {
  EXPECT_EQ(encode(AgentRequest(Hello{.protocol = 1, .client = "rank 3"})),
            R"({"type":"hello","protocol":1,"client":"rank 3"})");
  EXPECT_EQ(encode(AgentRequest(Acquire{.gpu = "0", .job = "gpt3", .time_to_live = milliseconds(5000)})),
            R"({"type":"acquire","gpu":"0","job":"gpt3","time_to_live_ms":5000})");
  EXPECT_EQ(encode(AgentRequest(Renew{7})), R"({"type":"renew","lease":7})");
  EXPECT_EQ(encode(AgentRequest(Release{7})), R"({"type":"release","lease":7})");
  EXPECT_EQ(encode(AgentRequest(GetStatus{})), R"({"type":"status"})");
  EXPECT_EQ(encode(AgentRequest(Quiesce{})), R"({"type":"quiesce"})");
  EXPECT_EQ(encode(AgentRequest(Quiesce{milliseconds(60'000)})),
            R"({"type":"quiesce","resume_after_ms":60000})");
  EXPECT_EQ(encode(AgentRequest(Resume{})), R"({"type":"resume"})");
}

TEST(AgentMessages, RepliesAsTheyStandOnTheWire) {
  EXPECT_EQ(
      encode(AgentReply(Welcome{.protocol = 1,
                                .version = "0.1",
                                .backend = "sim",
                                .gpus = {{.index = 0,
                                          .uuid = "GPU-1",
                                          .name = "A100",
                                          .clocks = {Megahertz(210), Megahertz(225)},
                                          .controllable = true,
                                          .reason = ""}}})),
      R"({"type":"welcome","protocol":1,"version":"0.1","backend":"sim","gpus":[{"index":0,"uuid":"GPU-1",)"
      R"("name":"A100","clocks_mhz":[210,225],"controllable":true,"reason":""}]})");
  EXPECT_EQ(
      encode(AgentReply(Acquired{.lease = 7,
                                 .gpu = "GPU-1",
                                 .baseline = std::nullopt,
                                 .clocks = {Megahertz(900)},
                                 .time_to_live = milliseconds(10'000)})),
      R"({"type":"acquired","lease":7,"gpu":"GPU-1","baseline_mhz":null,"clocks_mhz":[900],"time_to_live_ms":10000})");
  EXPECT_EQ(encode(AgentReply(Ok{})), R"({"type":"ok"})");
  EXPECT_EQ(encode(AgentReply(Refusal{core::ErrorCode::kBusy, "leased to \"x\""})),
            R"({"type":"error","code":"busy","message":"leased to \"x\""})");
  EXPECT_EQ(encode(AgentReply(Ended{7, "expired"})), R"({"type":"ended","lease":7,"reason":"expired"})");
  EXPECT_EQ(
      encode(AgentReply(AgentStatus{.version = "0.1",
                                    .backend = "sim",
                                    .driver = "535",
                                    .quiesced = false,
                                    .uptime_s = 1.5,
                                    .gpus = {{.index = 0,
                                              .uuid = "GPU-1",
                                              .name = "A100",
                                              .state = "leased",
                                              .reason = "",
                                              .intended = Megahertz(900),
                                              .sm_clock = std::nullopt,
                                              .power = core::Watts(90.25),
                                              .energy = std::nullopt,
                                              .temperature = core::Celsius(40),
                                              .owner = "gpt3",
                                              .clock_changes = 5,
                                              .refused = 1,
                                              .failed = 0}}})),
      R"({"type":"status","version":"0.1","backend":"sim","driver":"535","quiesced":false,"uptime_s":1.5,"gpus":[)"
      R"({"index":0,"uuid":"GPU-1","name":"A100","state":"leased","reason":"","intended_mhz":900,)"
      R"("sm_clock_mhz":null,"power_w":90.25,"energy_j":null,"temperature_c":40,"owner":"gpt3",)"
      R"("clock_changes":5,"refused":1,"failed":0}]})");
}

/// Random messages within the limits. Texts are made of pieces that need care.
struct Draw {
  std::vector<std::uint32_t> numbers;
  std::size_t next = 0;

  std::uint32_t number(std::uint32_t below) {
    const std::uint32_t n = numbers.empty() ? 0 : numbers[next++ % numbers.size()];
    return n % below;
  }
  std::string text(std::size_t limit) {
    static const std::vector<std::string> kPieces = {"a", "\"", "\\", "\xc3\xa9", "\xe2\x82\xac", " ", "/"};
    std::string out;
    for (std::uint32_t i = number(6); i > 0; --i) out += kPieces[number(7)];
    return format::printable(out, limit);
  }
  std::string gpu() { return "GPU-" + std::to_string(number(100'000)); }
  std::uint64_t id() { return 1 + (std::uint64_t{number(1U << 31)} << 32) + number(1U << 31); }
  std::optional<Megahertz> clock() {
    return number(3) == 0 ? std::nullopt : std::optional(Megahertz(1 + number(65'535)));
  }
  std::vector<Megahertz> clocks() {
    std::vector<Megahertz> out;
    std::uint32_t mhz = 0;
    for (std::uint32_t i = number(5); i > 0; --i) out.emplace_back(mhz += 1 + number(100));
    return out;
  }
  milliseconds time_to_live() { return milliseconds(1000 + number(59'001)); }
  template <class Unit>
  std::optional<core::Quantity<Unit>> reading() {
    if (number(3) == 0) return std::nullopt;
    return core::Quantity<Unit>((number(1U << 31) - 1e9) / 7.0);
  }

  AgentRequest request() {
    switch (number(7)) {
      case 0:
        return Hello{.protocol = 1 + number(65'535), .client = text(kMaxAgentName)};
      case 1:
        return Acquire{.gpu = gpu(), .job = text(kMaxAgentName), .time_to_live = time_to_live()};
      case 2:
        return Renew{id()};
      case 3:
        return Release{id()};
      case 4:
        return GetStatus{};
      case 5:
        return number(2) == 0 ? Quiesce{} : Quiesce{milliseconds(1 + number(604'800'000))};
      default:
        return Resume{};
    }
  }
  GpuStatus gpu_status() {
    return {.index = number(64),
            .uuid = gpu(),
            .name = text(kMaxProduct),
            .state = "leased",
            .reason = text(kMaxReason),
            .intended = clock(),
            .sm_clock = clock(),
            .power = reading<core::WattsTag>(),
            .energy = reading<core::JoulesTag>(),
            .temperature = reading<core::CelsiusTag>(),
            .owner = text(kMaxOwner),
            .clock_changes = id(),
            .refused = number(9),
            .failed = number(9)};
  }
  AgentReply reply() {
    switch (number(6)) {
      case 0: {
        Welcome m{.protocol = 1, .version = text(kMaxVersion), .backend = text(kMaxVersion), .gpus = {}};
        for (std::uint32_t i = number(4); i > 0; --i) {
          m.gpus.push_back({.index = number(64),
                            .uuid = gpu(),
                            .name = text(kMaxProduct),
                            .clocks = clocks(),
                            .controllable = number(2) == 0,
                            .reason = text(kMaxReason)});
        }
        return m;
      }
      case 1:
        return Acquired{.lease = id(),
                        .gpu = gpu(),
                        .baseline = clock(),
                        .clocks = clocks(),
                        .time_to_live = time_to_live()};
      case 2:
        return Ok{};
      case 3: {
        AgentStatus m{.version = text(kMaxVersion),
                      .backend = text(kMaxVersion),
                      .driver = text(kMaxVersion),
                      .quiesced = number(2) == 0,
                      .uptime_s = number(1U << 31) / 3.0,
                      .gpus = {}};
        for (std::uint32_t i = number(4); i > 0; --i) m.gpus.push_back(gpu_status());
        return m;
      }
      case 4:
        return Refusal{
            core::error_table()[number(static_cast<std::uint32_t>(core::error_table().size()))].code,
            text(kMaxMessage)};
      default:
        return Ended{id(), text(kMaxReason)};
    }
  }
};

TEST(AgentMessages, WhateverIsWrittenIsReadTheSame) {
  tests::check_property(
      [](std::vector<std::uint32_t> numbers) {
        Draw draw{std::move(numbers)};
        const std::string request = encode(draw.request());
        const auto read_request = parse_agent_request(request);
        RC_ASSERT(read_request.has_value());
        RC_ASSERT(encode(*read_request) == request);
        const std::string reply = encode(draw.reply());
        const auto read_reply = parse_agent_reply(reply);
        RC_ASSERT(read_reply.has_value());
        RC_ASSERT(encode(*read_reply) == reply);
      },
      400);
}

TEST(AgentMessages, WhatIsNotPrintableIsReplacedAndCut) {
  EXPECT_EQ(encode(AgentRequest(Hello{.protocol = 1, .client = "a\nb\xff"})),
            R"({"type":"hello","protocol":1,"client":"a?b?"})");
  const std::string long_job(kMaxAgentName + 1, 'j');
  const auto parsed = parse_agent_request(encode(AgentRequest(Acquire{.gpu = "0", .job = long_job})));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(std::get<Acquire>(*parsed).job, long_job.substr(1));
}

TEST(AgentMessages, TheLongestWelcomeFitsAPacket) {
  Welcome welcome{.protocol = 1,
                  .version = std::string(kMaxVersion, '"'),
                  .backend = std::string(kMaxVersion, '"'),
                  .gpus = {}};
  for (std::uint32_t i = 0; i < kMaxGpus; ++i) {
    AgentGpu gpu{.index = i,
                 .uuid = std::string(96, 'G'),
                 .name = std::string(96, '"'),
                 .clocks = {},
                 .controllable = false,
                 .reason = std::string(kMaxReason, '"')};
    for (std::uint32_t c = 0; c < kMaxClocks; ++c) gpu.clocks.emplace_back(9000 + c);
    welcome.gpus.push_back(gpu);
  }
  const std::string packet = encode(AgentReply(welcome));
  EXPECT_LE(packet.size(), kMaxAgentPacket);
  EXPECT_TRUE(parse_agent_reply(packet));
}

TEST(AgentMessages, RequestsMayOmitWhatHasADefault) {
  const auto parsed = parse_agent_request(R"( {"type":"acquire", "gpu":"GPU-1"} )");
  ASSERT_TRUE(parsed) << parsed.error().text();
  EXPECT_EQ(std::get<Acquire>(*parsed).job, "");
  EXPECT_EQ(std::get<Acquire>(*parsed).time_to_live, kDefaultTimeToLive);
}

TEST(AgentMessages, RefusesWhatIsNoRequest) {
  EXPECT_EQ(request_refusal(""), "request:1:1: the text ends where an object must stand");
  EXPECT_EQ(request_refusal("[]"), R"(request:1:1: "[" where an object must stand)");
  EXPECT_EQ(request_refusal("{}"), R"(request:1:1: the first member must be "type")");
  EXPECT_EQ(request_refusal(R"({"lease":7,"type":"renew"})"),
            R"(request:1:1: the first member must be "type")");
  EXPECT_EQ(request_refusal(R"({"type":"drop tables"})"),
            R"(request:1:1: "drop tables" is no type of a message here)");
  EXPECT_EQ(request_refusal(R"({"type":"welcome"})"),
            R"(request:1:1: "welcome" is no type of a message here)");
  EXPECT_EQ(request_refusal(R"({"type":7})"), R"(request:1:9: "7" where a string must stand)");
  EXPECT_EQ(request_refusal(R"({"type":"renew"})"), R"(request:1:1: member "lease" is missing)");
  EXPECT_EQ(request_refusal(R"({"type":"renew","lease":7,"lease":8})"),
            R"(request:1:27: member "lease" is there twice)");
  EXPECT_EQ(request_refusal(R"({"type":"renew","lease":7} {})"),
            R"(request:1:28: "{" where the end of the text must stand)");
  EXPECT_EQ(request_refusal(R"({"type":"resume","by":"me"})"), R"(request:1:18: unknown member "by")");
  EXPECT_EQ(request_refusal("{\"type\":\"resume\xff\"}"),
            "request:1:16: byte 0xff is not UTF-8 text; the packet must be");
}

TEST(AgentMessages, RefusesValuesOutOfRange) {
  const auto lease = [](const std::string& value) {
    return request_refusal(R"({"type":"renew","lease":)" + value + "}");
  };
  EXPECT_EQ(lease("0"), R"(request:1:25: "0" where a whole number from 1 to 9223372036854775807 must stand)");
  EXPECT_EQ(lease("-1"),
            R"(request:1:25: "-1" where a whole number from 1 to 9223372036854775807 must stand)");
  EXPECT_EQ(lease("1e3"),
            R"(request:1:25: "1e3" where a whole number from 1 to 9223372036854775807 must stand)");
  EXPECT_EQ(lease("NaN"),
            R"(request:1:25: "NaN" where a whole number from 1 to 9223372036854775807 must stand)");
  EXPECT_EQ(
      lease("9223372036854775808"),
      R"(request:1:25: "9223372036854775808" where a whole number from 1 to 9223372036854775807 must stand)");
  EXPECT_EQ(request_refusal(R"({"type":"acquire","gpu":"../../etc"})"),
            R"(request:1:25: gpu is "../../etc"; it must be a UUID or an index)");
  EXPECT_EQ(request_refusal(R"({"type":"acquire","gpu":""})"),
            R"(request:1:25: gpu is ""; it must be a UUID or an index)");
  EXPECT_EQ(request_refusal(R"({"type":"acquire","gpu":"0","time_to_live_ms":999})"),
            R"(request:1:47: "999" where a whole number from 1000 to 60000 must stand)");
  EXPECT_EQ(request_refusal(R"({"type":"acquire","gpu":"0","job":"a\u001bb"})"),
            R"(request:1:35: job is "a\u001bb"; it must be printable UTF-8 of at most 128 bytes)");
  EXPECT_EQ(request_refusal(R"({"type":"quiesce","resume_after_ms":0})"),
            R"(request:1:37: "0" where a whole number from 1 to 604800000 must stand)");
}

TEST(AgentMessages, BoundsWhatItReads) {
  const std::string long_packet =
      R"({"type":"hello","protocol":1,"client":")" + std::string(kMaxAgentRequest, 'x') + "\"}";
  EXPECT_EQ(request_refusal(long_packet), "request: the packet has 4137 bytes; the limit is 4096");
  EXPECT_EQ(request_refusal(R"({"type":)" + std::string(4000, '[')),
            "request:1:9: \"" + std::string(60, '[') + "...\" where a string must stand");
  std::string gpus = R"({"type":"acquired","lease":1,"gpu":"G","baseline_mhz":null,"clocks_mhz":[1)";
  for (int i = 2; i <= 257; ++i) gpus += ',' + std::to_string(i);
  EXPECT_EQ(reply_refusal(gpus), "reply:1:990: more than 256 elements of an array, the limit");
}

TEST(AgentMessages, TheClientDoesNotTrustTheAgentEither) {
  EXPECT_EQ(reply_refusal(R"({"type":"error","code":"haha","message":""})"),
            R"(reply:1:24: "haha" is no error code)");
  EXPECT_EQ(
      reply_refusal(
          R"({"type":"acquired","lease":1,"gpu":"G","baseline_mhz":0,"clocks_mhz":[],"time_to_live_ms":10000})"),
      R"(reply:1:55: "0" where a whole number from 1 to 65535 must stand)");
  EXPECT_EQ(
      reply_refusal(R"({"type":"acquired","lease":1,"gpu":"G","baseline_mhz":null,"clocks_mhz":[900,900]})"),
      "reply:1:78: 900 MHz after 900 MHz; clocks must ascend");
  EXPECT_EQ(reply_refusal(R"({"type":"status","version":"","backend":"","driver":"","quiesced":1})"),
            R"(reply:1:67: "1" where true or false must stand)");
  EXPECT_EQ(reply_refusal(
                R"({"type":"status","version":"","backend":"","driver":"","quiesced":true,"uptime_s":1e16})"),
            "reply:1:83: 1e+16 is beyond the limit of 1000000000000000");
}

}  // namespace
}  // namespace perseus::wire
