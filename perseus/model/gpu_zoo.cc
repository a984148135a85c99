// SPDX-License-Identifier: Apache-2.0
#include "perseus/model/gpu_zoo.h"

#include <array>
#include <cstdint>

#include "perseus/model/names.h"

namespace perseus::model {
namespace {

// Sources that several rows share.
constexpr std::string_view kA100Sheet =
    "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
    "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf, specifications";
constexpr std::string_view kA100Paper =
    "https://images.nvidia.com/aem-dam/en-zz/Solutions/data-center/"
    "nvidia-ampere-architecture-whitepaper.pdf, "
    "comparison of V100 and A100";
constexpr std::string_view kH100Sheet = "https://www.nvidia.com/en-us/data-center/h100/, specifications";
constexpr std::string_view kH100Paper =
    "https://resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper, comparison of A100 and H100";
constexpr std::string_view kH200Sheet = "https://www.nvidia.com/en-us/data-center/h200/, specifications";
constexpr std::string_view kA40Sheet =
    "https://images.nvidia.com/content/Solutions/data-center/a40/nvidia-a40-datasheet.pdf, specifications";
constexpr std::string_view kAmpereClocks =
    "`nvidia-smi -q -d SUPPORTED_CLOCKS` of the product: 210 to 1410 by 15, as in the published profile";
constexpr std::string_view kPcieHopperClocks =
    "`nvidia-smi -q -d SUPPORTED_CLOCKS` of the product: 210 to 1755 by 15";
constexpr std::string_view kHopperClocks =
    "`nvidia-smi -q -d SUPPORTED_CLOCKS` of the product: up to 1980; from 210 by 15 assumed";
constexpr std::string_view kA40Clocks =
    "Perseus artifact (github.com/ml-energy/zeus, branch kronos, README): 103 clocks; its profiles end at "
    "1740";
constexpr std::string_view kA100Fit =
    "derived: power over clock of the published A100 SXM profile (github.com/ml-energy/zeus, "
    "sosp24_data/emulation/"
    "stage_profile/gpt3-175b+a100_sxm_bf16.csv): P = 56 W + 0.209 W/MHz below 1080 MHz, voltage about 1.2 "
    "times at 1410";
constexpr std::string_view kA40Fit =
    "derived: power over clock of the published A40 profile (github.com/ml-energy/zeus, "
    "sosp24_data/emulation/"
    "stage_profile/gpt3-175b+a40_bf16.csv): P = 91 W + 0.1 W/MHz below 1100 MHz, power limit reached from "
    "1455 MHz";
constexpr std::string_view kSameSilicon = "assumed: as a100-sxm-80g, the same silicon";
constexpr std::string_view kHopperGuess =
    "assumed: no public profile over clocks; A100's shape, scaled to 700 W";
constexpr std::string_view kHopperPcieGuess = "assumed: h100-sxm scaled by its 114 of 132 SMs";
constexpr std::string_view kH200Guess = "assumed: as h100-sxm, the same compute die";
constexpr std::string_view kAmpereGemm =
    "assumed, so that a whole computation comes near the 54.2 % MFU of a 530B model (arXiv 2205.05198, "
    "abstract)";
constexpr std::string_view kHopperGemm =
    "assumed, so that a whole computation lies somewhat above the 38 to 43 % of whole jobs (arXiv "
    "2407.21783, "
    "section 3.3)";
constexpr std::string_view kA40Gemm = "assumed: as the A100's";
constexpr std::string_view kAttention =
    "assumed: FlashAttention-2 reaches 50 to 73 % on A100 (arXiv 2307.08691, abstract)";
constexpr std::string_view kHopperAttention =
    "assumed: below FlashAttention-3's best, 75 % (arXiv 2407.08608, abstract)";
constexpr std::string_view kA100Bus =
    "github.com/NVIDIA/nccl-tests/issues/149: about 200 GB/s bus bandwidth on 8 A100 SXM";
constexpr std::string_view kH100Bus =
    "github.com/NVIDIA/nccl-tests/issues/212: 370 GB/s of ring all-reduce on 8 H100 SXM";
constexpr std::string_view kBridgeBus =
    "github.com/NVIDIA/nccl/issues/1161: 116 GB/s between two bridged H100 PCIe";
constexpr std::string_view kBridgeGuess =
    "assumed: as the bridged H100 PCIe of github.com/NVIDIA/nccl/issues/1161";
constexpr std::string_view kPcie4 = "assumed: 0.6 of the 32 GB/s of PCIe 4.0 x16, one direction";
constexpr std::string_view kPcie5 = "assumed: 0.6 of the 64 GB/s of PCIe 5.0 x16, one direction";
constexpr std::string_view kHdr = "assumed: one 200 Gb/s adapter for each GPU";
constexpr std::string_view kNdr = "assumed: one 400 Gb/s adapter for each GPU";
constexpr std::string_view kShared = "assumed: one 100 Gb/s adapter for each GPU";
constexpr std::string_view kA100Block =
    "Perseus artifact (github.com/ml-energy/lowtime, scripts/envpipe.py, branch of the paper): 83.64 W on "
    "A100";
constexpr std::string_view kA40Block =
    "Perseus artifact (github.com/ml-energy/lowtime, scripts/envpipe.py, branch of the paper): 70.38 W on "
    "A40";
constexpr std::string_view kHopperBlock = "assumed: A100's share of the power limit, 0.21";
constexpr std::string_view kHbm2e = "assumed: 2 TB/s at 4 pJ/bit";
constexpr std::string_view kHbm3 = "assumed: 4 pJ/bit at full bandwidth";
constexpr std::string_view kGddr6 = "assumed: 0.7 TB/s at 9 pJ/bit";
constexpr std::string_view kA100Static =
    "derived: the 56 W of the published A100 SXM profile less the GEMMs' memory traffic";
constexpr std::string_view kA40Static =
    "derived: the 91 W of the published A40 profile less the GEMMs' memory traffic";

constexpr std::string_view kMhz = "MHz";
constexpr std::string_view kBytes = "B/s";
constexpr std::string_view kRate = "FLOP/s";
constexpr std::string_view kSmRate = "FLOP/clock";
constexpr std::string_view kWatt = "W";
constexpr std::string_view kSlope = "W/MHz";
constexpr std::string_view kOne = "1";

constexpr GpuModel kA100Sxm = {
    .name = "a100-sxm-80g",
    .title = "NVIDIA A100 SXM4 80 GB",
    .clock_min = {210, kMhz, kAmpereClocks},
    .clock_max = {1410, kMhz, kAmpereClocks},
    .clock_step = {15, kMhz, kAmpereClocks},
    .streaming_multiprocessors = {108, kOne, kA100Paper},
    .flop_per_clock = {2048, kSmRate, kA100Paper},
    .datasheet_flops = {312e12, kRate, kA100Sheet},
    .memory_bandwidth = {2.039e12, kBytes, kA100Sheet},
    .power_limit = {400, kWatt, kA100Sheet},
    .static_power = {50, kWatt, kA100Static},
    .memory_power = {64, kWatt, kHbm2e},
    .dynamic_per_mhz = {0.209, kSlope, kA100Fit},
    .knee_clock = {1080, kMhz, kA100Fit},
    .top_voltage = {1.2, kOne, kA100Fit},
    .gemm_efficiency = {0.66, kOne, kAmpereGemm},
    .attention_efficiency = {0.55, kOne, kAttention},
    .pair_bandwidth = {200e9, kBytes, kA100Bus},
    .group_bandwidth = {200e9, kBytes, kA100Bus},
    .network_bandwidth = {25e9, kBytes, kHdr},
    .blocking_power = {83.64, kWatt, kA100Block},
};

constexpr GpuModel a100_pcie() {
  GpuModel gpu = kA100Sxm;
  gpu.name = "a100-pcie-80g";
  gpu.title = "NVIDIA A100 PCIe 80 GB";
  gpu.memory_bandwidth = {1.935e12, kBytes, kA100Sheet};
  gpu.power_limit = {300, kWatt, kA100Sheet};
  gpu.dynamic_per_mhz.source = gpu.knee_clock.source = gpu.top_voltage.source = kSameSilicon;
  gpu.static_power.source = gpu.memory_power.source = gpu.gemm_efficiency.source = kSameSilicon;
  gpu.pair_bandwidth = {116e9, kBytes, kBridgeGuess};
  gpu.group_bandwidth = {19.2e9, kBytes, kPcie4};
  return gpu;
}

constexpr GpuModel kH100Sxm = {
    .name = "h100-sxm",
    .title = "NVIDIA H100 SXM5 80 GB",
    .clock_min = {210, kMhz, kHopperClocks},
    .clock_max = {1980, kMhz, kHopperClocks},
    .clock_step = {15, kMhz, kHopperClocks},
    .streaming_multiprocessors = {132, kOne, kH100Paper},
    .flop_per_clock = {4096, kSmRate, kH100Paper},
    .datasheet_flops = {989.4e12, kRate, kH100Paper},
    .memory_bandwidth = {3.35e12, kBytes, kH100Sheet},
    .power_limit = {700, kWatt, kH100Sheet},
    .static_power = {90, kWatt, kHopperGuess},
    .memory_power = {107, kWatt, kHbm3},
    .dynamic_per_mhz = {0.22, kSlope, kHopperGuess},
    .knee_clock = {1320, kMhz, kHopperGuess},
    .top_voltage = {1.3, kOne, kHopperGuess},
    .gemm_efficiency = {0.6, kOne, kHopperGemm},
    .attention_efficiency = {0.5, kOne, kHopperAttention},
    .pair_bandwidth = {370e9, kBytes, kH100Bus},
    .group_bandwidth = {370e9, kBytes, kH100Bus},
    .network_bandwidth = {50e9, kBytes, kNdr},
    .blocking_power = {147, kWatt, kHopperBlock},
};

constexpr GpuModel h100_pcie() {
  GpuModel gpu = kH100Sxm;
  gpu.name = "h100-pcie";
  gpu.title = "NVIDIA H100 PCIe 80 GB";
  gpu.clock_min = {210, kMhz, kPcieHopperClocks};
  gpu.clock_max = {1755, kMhz, kPcieHopperClocks};
  gpu.clock_step = {15, kMhz, kPcieHopperClocks};
  gpu.streaming_multiprocessors.value = 114;
  gpu.datasheet_flops = {756e12, kRate, kH100Paper};
  gpu.memory_bandwidth = {2.0e12, kBytes, kH100Sheet};
  gpu.power_limit = {350, kWatt, kH100Sheet};
  gpu.static_power = {70, kWatt, kHopperPcieGuess};
  gpu.memory_power = {64, kWatt, kHbm2e};
  gpu.dynamic_per_mhz = {0.19, kSlope, kHopperPcieGuess};
  gpu.knee_clock = {1170, kMhz, "assumed: two thirds of the top clock, as h100-sxm"};
  gpu.top_voltage = {1.25, kOne, kHopperPcieGuess};
  gpu.pair_bandwidth = {116e9, kBytes, kBridgeBus};
  gpu.group_bandwidth = {38.4e9, kBytes, kPcie5};
  gpu.blocking_power = {73.5, kWatt, kHopperBlock};
  return gpu;
}

constexpr GpuModel h200_sxm() {
  GpuModel gpu = kH100Sxm;
  gpu.name = "h200-sxm";
  gpu.title = "NVIDIA H200 SXM 141 GB";
  gpu.memory_bandwidth = {4.8e12, kBytes, kH200Sheet};
  gpu.power_limit = {700, kWatt, kH200Sheet};
  gpu.memory_power = {154, kWatt, kHbm3};
  gpu.static_power.source = gpu.dynamic_per_mhz.source = kH200Guess;
  gpu.knee_clock.source = gpu.top_voltage.source = kH200Guess;
  return gpu;
}

constexpr GpuModel kA40 = {
    .name = "a40",
    .title = "NVIDIA A40 48 GB",
    .clock_min = {210, kMhz, kA40Clocks},
    .clock_max = {1740, kMhz, kA40Clocks},
    .clock_step = {15, kMhz, kA40Clocks},
    .streaming_multiprocessors = {84, kOne, kA40Sheet},
    .flop_per_clock = {1024, kSmRate, "derived: datasheet FLOP/s over 84 SMs at 1740 MHz"},
    .datasheet_flops = {149.7e12, kRate, kA40Sheet},
    .memory_bandwidth = {696e9, kBytes, kA40Sheet},
    .power_limit = {300, kWatt, kA40Sheet},
    .static_power = {80, kWatt, kA40Static},
    .memory_power = {50, kWatt, kGddr6},
    .dynamic_per_mhz = {0.1, kSlope, kA40Fit},
    .knee_clock = {1095, kMhz, kA40Fit},
    .top_voltage = {1.35, kOne, kA40Fit},
    .gemm_efficiency = {0.66, kOne, kA40Gemm},
    .attention_efficiency = {0.55, kOne, kAttention},
    .pair_bandwidth = {45e9, kBytes,
                       "assumed: 0.8 of the 56 GB/s of its NVLink bridge, one direction (A40 datasheet)"},
    .group_bandwidth = {19.2e9, kBytes, kPcie4},
    .network_bandwidth = {12.5e9, kBytes, kShared},
    .blocking_power = {70.38, kWatt, kA40Block},
};

// Sorted by name.
constexpr std::array kGpus = {a100_pcie(), kA100Sxm, kA40, h100_pcie(), kH100Sxm, h200_sxm()};

constexpr std::array kFields = {
    GpuField{"lowest clock", &GpuModel::clock_min},
    GpuField{"top clock", &GpuModel::clock_max},
    GpuField{"clock step", &GpuModel::clock_step},
    GpuField{"SMs", &GpuModel::streaming_multiprocessors},
    GpuField{"dense BF16 tensor work of one SM", &GpuModel::flop_per_clock},
    GpuField{"peak dense BF16 (datasheet)", &GpuModel::datasheet_flops},
    GpuField{"memory bandwidth", &GpuModel::memory_bandwidth},
    GpuField{"power limit", &GpuModel::power_limit},
    GpuField{"static power", &GpuModel::static_power},
    GpuField{"memory power at full bandwidth", &GpuModel::memory_power},
    GpuField{"dynamic power of busy SMs", &GpuModel::dynamic_per_mhz},
    GpuField{"voltage knee", &GpuModel::knee_clock},
    GpuField{"voltage at the top clock over the knee's", &GpuModel::top_voltage},
    GpuField{"GEMM efficiency", &GpuModel::gemm_efficiency},
    GpuField{"attention efficiency", &GpuModel::attention_efficiency},
    GpuField{"all-reduce bus bandwidth, 2 GPUs", &GpuModel::pair_bandwidth},
    GpuField{"all-reduce bus bandwidth, 3 to 8 GPUs", &GpuModel::group_bandwidth},
    GpuField{"network bandwidth of one GPU", &GpuModel::network_bandwidth},
    GpuField{"blocking power", &GpuModel::blocking_power},
};

}  // namespace

std::span<const GpuModel> gpus() {
  return kGpus;
}

std::span<const GpuField> gpu_fields() {
  return kFields;
}

core::Result<const GpuModel*> find_gpu(std::string_view name) {
  return find_by_name(gpus(), name, "GPU", "--gpu-model");
}

std::vector<core::Megahertz> supported_clocks(const GpuModel& gpu) {
  const auto lowest = static_cast<std::uint32_t>(gpu.clock_min.value);
  const auto step = static_cast<std::uint32_t>(gpu.clock_step.value);
  std::vector<core::Megahertz> clocks;
  for (auto mhz = static_cast<std::uint32_t>(gpu.clock_max.value); mhz >= lowest; mhz -= step) {
    clocks.emplace_back(mhz);
  }
  return clocks;
}

core::Watts blocking_power(const GpuModel& gpu) {
  return core::Watts(gpu.blocking_power.value);
}

}  // namespace perseus::model
