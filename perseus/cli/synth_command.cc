// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <ostream>

#include "perseus/cli/command.h"
#include "perseus/format/files.h"
#include "perseus/format/profile_csv.h"
#include "perseus/model/gpu_zoo.h"
#include "perseus/model/synthesise.h"
#include "perseus/model/transformer_zoo.h"

namespace perseus::cli {
namespace {

std::string names_help() {
  std::string text = "Models:     ";
  for (const auto& m : model::transformers()) text += fmt::format(" {}", m.name);
  text += "\nGPU models: ";
  for (const auto& g : model::gpus()) text += fmt::format(" {}", g.name);
  return text +
         "\n\nEvery figure is modelled, none measured: docs/model.md.\n\nExample:\n  perseus synth --model "
         "gpt3-175b "
         "--gpu-model a100-sxm-80g --pp 8 --tp 8 --microbatch-size 1 -o profile.csv";
}

class SynthCommand final : public Command {
 public:
  CLI::App* declare(CLI::App& app) override {
    CLI::App* command =
        app.add_subcommand("synth", "Make a profile from an analytic model of GPU and network");
    command->add_option("--model", request_.model, "Model by name (listed below)")
        ->type_name("NAME")
        ->required();
    command->add_option("--gpu-model", request_.gpu, "GPU product by name (listed below)")
        ->type_name("NAME")
        ->required();
    declare_shape(*command);
    declare_measurement(*command);
    command->add_option("-o,--output", output_, "File to write, - for standard output (default)")
        ->type_name("FILE");
    command->footer(names_help());
    return command;
  }

  core::Status run(const Io& io) override {
    PERSEUS_ASSIGN_OR_RETURN(const auto profile, model::synthesise(request_));
    const std::string csv = format::write_profile_csv(profile);
    if (!is_standard_output(output_)) return format::write_file_atomically(output_, csv);
    io.out << csv;
    return {};
  }

 private:
  void declare_shape(CLI::App& command) {
    command.add_option("--pp", request_.pipeline, "Pipeline ranks (default 1)")->type_name("N");
    command.add_option("--tp", request_.tensor, "Tensor-parallel GPUs per rank (default 1)")->type_name("N");
    command.add_option("--virtual-stages", request_.virtual_stages, "Model stages per rank (default 1)")
        ->type_name("N");
    command.add_option("--microbatch-size", request_.microbatch_size, "Sequences per microbatch (default 1)")
        ->type_name("N");
    command
        .add_option("--sequence-length", request_.sequence_length,
                    "Tokens per sequence (default: the model's)")
        ->type_name("N");
    static const std::map<std::string, model::Recompute> kRecompute = {
        {"none", model::Recompute::kNone},
        {"full", model::Recompute::kFull},
        {"separate", model::Recompute::kSeparate}};
    command
        .add_option("--recompute", request_.recompute,
                    "Activation recomputation: none, full (in the backward) or separate")
        ->type_name("MODE")
        ->transform(CLI::CheckedTransformer(kRecompute).description(""));
    static const std::map<std::string, model::Partition> kPartition = {
        {"min-imbalance", model::Partition::kMinImbalance},
        {"even", model::Partition::kEven},
        {"ends-as-layers", model::Partition::kEndsAsLayers}};
    command
        .add_option("--partition", request_.partition,
                    "Layers to stages: min-imbalance, even or ends-as-layers")
        ->type_name("MODE")
        ->transform(CLI::CheckedTransformer(kPartition).description(""));
    command.add_flag("--split-backward", request_.split_backward,
                     "Also rows of backward_input and backward_weight");
  }

  void declare_measurement(CLI::App& command) {
    command.add_option("--clocks", request_.clocks, "Number of clocks (default: all useful ones)")
        ->type_name("N");
    command
        .add_option("--noise-time", request_.noise_time, "Noise of one measured time, per cent (default 0)")
        ->type_name("PCT");
    command
        .add_option("--noise-energy", request_.noise_energy,
                    "Noise of one measured energy, per cent (default 0)")
        ->type_name("PCT");
    command.add_option("--samples", request_.samples, "Measurements behind each row (default 1)")
        ->type_name("N");
    command.add_option("--seed", request_.seed, "Seed of the noise (default 1)")->type_name("N");
  }

  model::SynthRequest request_;
  std::string output_;
};

}  // namespace

std::unique_ptr<Command> make_synth_command() {
  return std::make_unique<SynthCommand>();
}

}  // namespace perseus::cli
