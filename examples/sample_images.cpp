// sample-images: pictures from a trained network in a folder as diffusers saves them.
#include <diffusion/diffusion.hpp>
#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/samplers/sampler_by_name.hpp>
#include <support/command_line.hpp>
#include <support/gif.hpp>
#include <support/image.hpp>
#include <support/model_folder.hpp>
#include <support/names.hpp>
#include <support/npy.hpp>
#include <support/progress.hpp>

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <variant>
#include <vector>

namespace {

using Pictures = nn::Unet2d<float>::Batch;
using diffusion::DiffusersConfig;

struct Arguments {
  std::string folder;
  std::optional<std::string> sampler;
  std::optional<std::string> steps;  // read when the folder's training timesteps are known
  std::optional<std::string> spacing;
  std::optional<double> eta;
  std::string clip = "config";
  double guidance = 1;
  std::vector<std::string> classes;
  int count = 1;
  std::uint64_t seed = 0;
  std::string noise = "philox";
  int threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 1024u));
  std::string output = "samples.png";
};

void declare(CLI::App& app, Arguments& arguments) {
  app.add_option("MODEL_FOLDER", arguments.folder,
                 "folder with unet/ and scheduler/, as diffusers saves it")
      ->required();
  app.add_option(
      "--sampler", arguments.sampler,
      "ddim or ddpm as Python has them, or a name such as \"euler a\", unipc, \"DPM++ 2M "
      "Karras\" (docs/samplers.md); default: the folder's scheduler");
  app.add_option("--steps", arguments.steps,
                 "steps, 1 to the training timesteps; default: all for ddpm, 50 for ddim and the "
                 "folder's own scheduler (4 for a distilled one), 20 for a sampler by name")
      ->type_name("INT");
  app.add_option("--spacing", arguments.spacing, "of the timesteps; default: the folder's")
      ->check(CLI::IsMember(examples::keys(examples::spacing_names())));
  app.add_option("--eta", arguments.eta, "ddim's noise, 0 (default, none) to 1 (as much as ddpm)");
  app.add_option("--clip", arguments.clip,
                 "none, rederived (epsilon from the clipped picture), raw (epsilon as it is), or "
                 "config: the folder's")
      ->check(CLI::IsMember({"config", "none", "rederived", "raw"}))
      ->capture_default_str();
  app.add_option("--guidance", arguments.guidance,
                 "g of u + g (c - u) for the predictions c with and u without class; 1 is none; a "
                 "learned variance stays that of c")
      ->capture_default_str();
  app.add_option("--class", arguments.classes,
                 "class, or several: 3, or 0,1,2, or 0-9; default: all but the null class");
  examples::add_whole_number(app, "--count", arguments.count, 1, 1'000'000,
                             "pictures of each class, 1 to 1000000");
  examples::add_whole_number(app, "--seed", arguments.seed, std::uint64_t{0},
                             std::numeric_limits<std::uint64_t>::max(),
                             "seed of the noise, 0 to 2^64 - 1");
  app.add_option("--noise", arguments.noise,
                 "philox: a picture does not depend on those beside it; torch-cpu: as PyTorch "
                 "draws it")
      ->check(CLI::IsMember({"philox", "torch-cpu"}))
      ->capture_default_str();
  examples::add_whole_number(app, "--threads", arguments.threads, 1, 1024,
                             "threads of the network, 1 to 1024");
  app.add_option("--output", arguments.output,
                 "FILE.png: a grid, a column for each class; FILE.gif: the same as it is denoised; "
                 "FILE.npy: float32 [pictures, channels, height, width], one class after another, "
                 "in the network's range")
      ->capture_default_str();
}

/// What the output file is to hold: ".png", ".gif" or ".npy", however its name spells it.
std::string kind_of(const std::string& output) {
  std::string kind = std::filesystem::path(output).extension().string();
  for (char& letter : kind)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return kind;
}

int class_number(const std::string& text, const std::string& argument) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end)
    throw std::invalid_argument("--class " + argument + ": \"" + text + "\" is not a class number");
  return value;
}

/// The parts of a list, also those that are empty.
std::vector<std::string> parts_of(const std::string& list) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t comma = list.find(','); comma != std::string::npos;
       comma = list.find(',', begin)) {
    parts.push_back(list.substr(begin, comma - begin));
    begin = comma + 1;
  }
  parts.push_back(list.substr(begin));
  return parts;
}

/// "3", "0,1,2", "0-9" and mixtures of these; without any, all classes but the null class.
std::vector<int> classes_of(const Arguments& arguments, const examples::Model& model) {
  const int known = model.classes();
  if (known == 0) {
    if (!arguments.classes.empty())
      throw std::invalid_argument("--class: the network of this folder has no classes");
    return {};
  }
  std::vector<int> classes;
  for (const std::string& argument : arguments.classes) {
    for (const std::string& part : parts_of(argument)) {
      const std::size_t dash = part.find('-', 1);
      const int first = class_number(part.substr(0, dash), argument);
      const int last =
          dash == std::string::npos ? first : class_number(part.substr(dash + 1), argument);
      for (const int bound : {first, last})
        if (bound < 0 || bound >= known)
          throw std::invalid_argument("--class: " + std::to_string(bound) +
                                      " is not a class of the network; it has 0 to " +
                                      std::to_string(known - 1));
      if (last < first)
        throw std::invalid_argument("--class: the range " + part + " runs backwards");
      for (int label = first; label <= last; ++label) classes.push_back(label);
    }
  }
  if (classes.empty())
    for (int label = 0; label < std::max(1, model.null_class()); ++label) classes.push_back(label);
  return classes;
}

bool by_name(const Arguments& arguments) {
  return arguments.sampler && *arguments.sampler != "ddim" && *arguments.sampler != "ddpm";
}

void check(const Arguments& arguments) {
  const auto require = [](bool good, const std::string& message) {
    if (!good) throw std::invalid_argument(message);
  };
  require(std::isfinite(arguments.guidance), "--guidance must be a finite number");
  require(!arguments.eta || arguments.sampler.value_or("ddim") == "ddim",
          "--eta belongs to ddim; " + arguments.sampler.value_or("") + " has none");
  require(arguments.clip != "raw" || !by_name(arguments),
          "--clip raw belongs to ddim; a sampler by name re-derives epsilon");
  const std::filesystem::path path(arguments.output);
  const std::string kind = kind_of(arguments.output);
  require(kind == ".png" || kind == ".gif" || kind == ".npy",
          "--output: " + arguments.output + " must end in .png, .gif or .npy");
  require(path.parent_path().empty() || std::filesystem::is_directory(path.parent_path()),
          "--output: there is no folder " + path.parent_path().string());
  require(!std::filesystem::is_directory(path), "--output: " + arguments.output + " is a folder");
  const std::string touched = std::filesystem::exists(path) ? path.string()
                              : path.has_parent_path()      ? path.parent_path().string()
                                                            : ".";
  require(access(touched.c_str(), W_OK) == 0, "--output: " + touched + " is not writable");
}

/// The scheduler class that reads the folder's configuration: the one asked for, else its own.
std::string scheduler_class(const Arguments& arguments) {
  if (!arguments.sampler || by_name(arguments)) return {};
  return *arguments.sampler == "ddim" ? "DDIMScheduler" : "DDPMScheduler";
}

int steps_of(const Arguments& arguments, const DiffusersConfig& config, int otherwise) {
  const int all = config.train_timesteps;
  return arguments.steps ? examples::whole_number("--steps", *arguments.steps, 1, all)
                         : std::min(otherwise, all);
}

/// A sampler by its name, on the folder's schedule, with the folder's clipping.
diffusion::SamplingPlan named_plan(const Arguments& arguments, const DiffusersConfig& config) {
  if (!config.betas)
    throw std::invalid_argument("--sampler: " + config.class_name +
                                " of the folder has no noise schedule that another could use");
  const diffusion::AnySchedule schedule(config.schedule<float>());
  const auto named = diffusion::sampler_by_name(*arguments.sampler, schedule);
  diffusion::SamplerOptions options = named.options();
  const auto clipping = arguments.clip == "config" ? config.plan(1).traits().clipping
                        : arguments.clip == "none" ? diffusion::Clipping::none()
                                                   : diffusion::Clipping::range(1);
  std::visit(
      [&](auto& chosen) {
        if (arguments.spacing)
          chosen.grid = {.spacing = examples::spacing_names().at(*arguments.spacing)};
        if constexpr (requires { chosen.clipping; }) chosen.clipping = clipping;
      },
      options);
  return diffusion::AnySampler(schedule, options, named.name())
      .plan(steps_of(arguments, config, 20));
}

/// Whether the network was distilled for certain timesteps, as those of LCM are.
bool distilled(const DiffusersConfig& config) {
  return config.resolved.contains("original_inference_steps");
}

/// Whether the sampler asked for by name is the one for which the folder's network was distilled:
/// then the folder knows the timesteps.
bool names_the_distilled(const Arguments& arguments, const DiffusersConfig& config) {
  namespace detail = diffusion::detail;
  const auto* named =
      detail::entry_named(diffusion::sampler_names(), detail::plain_name(*arguments.sampler));
  return named && distilled(config) && named->diffusers == config.class_name;
}

/// The folder's sampler with what the command line overrules.
diffusion::SamplingPlan plan_of(const Arguments& arguments, DiffusersConfig& config) {
  if (by_name(arguments) && !names_the_distilled(arguments, config))
    return named_plan(arguments, config);
  if (arguments.spacing && distilled(config))
    throw std::invalid_argument("--spacing: " + config.class_name +
                                " of the folder takes the timesteps of its distillation");
  const auto require_key = [&](const char* option, const char* key) {
    if (!config.resolved.contains(key))
      throw std::invalid_argument(std::string(option) + ": " + config.class_name +
                                  " of the folder has no " + key + "; name a --sampler");
  };
  const bool ddim = config.class_name.starts_with("DDIM");
  const bool ddpm = config.class_name.starts_with("DDPM");
  if (arguments.eta && !ddim)
    throw std::invalid_argument("--eta belongs to ddim; " + config.class_name + " has none");
  const bool quadratic = arguments.spacing == "quadratic";
  if (arguments.spacing) require_key("--spacing", "timestep_spacing");
  if (arguments.spacing && !quadratic) config = config.with("timestep_spacing", *arguments.spacing);
  if (arguments.clip != "config") {
    require_key("--clip", "clip_sample");
    config = config.with("clip_sample", arguments.clip != "none")
                 .with("clip_sample_range", 1)
                 .with("thresholding", false);
  }
  diffusion::DiffusersRun run;
  const int otherwise = distilled(config) ? 4 : ddpm ? 1'000'000 : 50;
  run.steps = steps_of(arguments, config, otherwise);
  run.eta = arguments.eta.value_or(0);
  run.use_clipped_model_output = arguments.clip == "rederived";
  if (!quadratic) return config.plan<float>(run);
  // The reference has no quadratic spacing; its stride would fit even lists only.
  const auto grid =
      diffusion::make_grid(config.schedule<float>(), run.steps,
                           {.spacing = diffusion::TimestepSpacing::quadratic,
                            .steps_offset = config.resolved.value("steps_offset", 0),
                            .set_alpha_to_one = config.resolved.value("set_alpha_to_one", true)});
  return config.plan(grid, run);
}

/// Where the pictures of a grid stand: a column for each class, or, of one class, about as many
/// columns as rows.
struct Layout {
  static constexpr int padding = 2;
  Eigen::Index columns, rows;
  int factor;  ///< small pictures are shown this many times as large
  Eigen::Index width, height;

  Layout(const diffusion::ShapeOf<Pictures>& shape, std::size_t classes)
      : columns(classes > 1 ? static_cast<Eigen::Index>(classes)
                            : static_cast<Eigen::Index>(
                                  std::ceil(std::sqrt(static_cast<double>(shape[0]))))),
        rows((shape[0] + columns - 1) / columns),
        factor(static_cast<int>(std::max<Eigen::Index>(1, 56 / std::max(shape[2], shape[3])))),
        width((columns * (shape[3] + padding) + padding) * factor),
        height((rows * (shape[2] + padding) + padding) * factor) {}
};

examples::Image picture_grid(const Pictures& pictures, std::size_t classes) {
  const auto count = static_cast<std::size_t>(pictures.dimension(0));
  const int channels = static_cast<int>(pictures.dimension(1));
  const int height = static_cast<int>(pictures.dimension(2));
  const int width = static_cast<int>(pictures.dimension(3));
  const auto size = static_cast<std::size_t>(pictures.size()) / count;
  const std::size_t per_class = count / classes;
  std::vector<examples::Image> tiles;
  for (std::size_t row = 0; row < per_class; ++row)
    for (std::size_t column = 0; column < classes; ++column)
      tiles.push_back(examples::image_from_planes(
          std::span<const float>(pictures.data() + (column * per_class + row) * size, size),
          channels, height, width));
  const Layout layout(diffusion::StateTraits<Pictures>::shape(pictures), classes);
  const int columns = static_cast<int>(layout.columns);
  return examples::upscale(examples::tile_grid(tiles, columns, Layout::padding), layout.factor);
}

void write(const Arguments& arguments, const Pictures& pictures, std::size_t classes,
           const std::vector<examples::Image>& frames) {
  const std::string kind = kind_of(arguments.output);
  if (kind == ".npy") {
    std::vector<std::size_t> shape;
    for (std::size_t i = 0; i < 4; ++i)
      shape.push_back(static_cast<std::size_t>(pictures.dimension(i)));
    examples::write_npy(
        arguments.output,
        std::span<const float>(pictures.data(), static_cast<std::size_t>(pictures.size())), shape);
  } else if (kind == ".gif") {
    examples::write_gif(arguments.output, frames);
  } else {
    examples::write_png(arguments.output, picture_grid(pictures, classes));
  }
  std::printf("wrote %s: %ld pictures\n", arguments.output.c_str(),
              static_cast<long>(pictures.dimension(0)));
}

/// The bytes of memory that this machine has; infinity where it does not tell.
double machine_memory() {
  const double pages = static_cast<double>(::sysconf(_SC_PHYS_PAGES));
  const double page_size = static_cast<double>(::sysconf(_SC_PAGESIZE));
  return pages > 0 && page_size > 0 ? pages * page_size : std::numeric_limits<double>::infinity();
}

/// A run that is ready to start: everything that the arguments can get wrong has been looked at.
class Job {
 public:
  explicit Job(const Arguments& arguments)
      : arguments_(arguments),
        model_(examples::load_model(arguments.folder, scheduler_class(arguments))),
        plan_(plan_of(arguments, model_.scheduler)),
        classes_(classes_of(arguments, model_)) {
    if (plan_[0].at.log_snr() > plan_.stages().back().to.log_snr())
      throw std::invalid_argument(
          "the folder's scheduler inverts pictures; name another --sampler");
    model_.network.set_threads(arguments.threads);
    const auto& config = model_.network.config();
    const auto groups = static_cast<Eigen::Index>(std::max<std::size_t>(classes_.size(), 1));
    shape_ = {groups * arguments.count, config.in_channels, model_.height(), model_.width()};
    if (kind_of(arguments.output) != ".npy") check_picture_file();
    if (config.out_channels != config.in_channels * (plan_.view().learns_variance() ? 2 : 1))
      throw std::invalid_argument("the network answers " + std::to_string(config.out_channels) +
                                  " channels for " + std::to_string(config.in_channels) +
                                  ", which this scheduler cannot use");
    if (arguments.guidance != 1 && model_.classes() < 2)
      throw std::invalid_argument("--guidance needs a network with classes and a null class");
    check_calls();
    check_memory();
  }

  void run() {
    if (model_.classes() == 0) {
      const std::vector<int> none;
      sample([&](const Pictures& x, double t, Pictures& out) { model_.network(x, t, none, out); });
      return;
    }
    std::vector<int> labels;
    for (const int label : classes_)
      labels.insert(labels.end(), static_cast<std::size_t>(arguments_.count), label);
    sample(diffusion::ClassifierFreeGuidance{examples::conditional(model_.network),
                                             labels,
                                             model_.null_class(),
                                             {.scale = arguments_.guidance}});
  }

 private:
  std::string sizes() const {
    return std::to_string(shape_[1]) + " x " + std::to_string(shape_[2]) + " x " +
           std::to_string(shape_[3]);
  }

  void check_picture_file() const {
    if (shape_[1] != 1 && shape_[1] != 3)
      throw std::invalid_argument("--output: pictures of " + std::to_string(shape_[1]) +
                                  " channels are neither grey nor RGB; write them to FILE.npy");
    constexpr Eigen::Index longest = 32768;
    const Layout layout(shape_, classes_.size());
    if (std::max(layout.width, layout.height) > longest)
      throw std::invalid_argument("--output: the grid of " + std::to_string(shape_[0]) +
                                  " pictures (--count " + std::to_string(arguments_.count) +
                                  ") would have " + std::to_string(layout.width) + " x " +
                                  std::to_string(layout.height) + " pixels, a side has at most " +
                                  std::to_string(longest) + "; FILE.npy takes any number");
  }

  /// Asks the network at every timestep for no pictures: it checks sizes and times all the same.
  void check_calls() {
    const Pictures none(0, shape_[1], shape_[2], shape_[3]);
    Pictures answer;
    for (const diffusion::Stage& stage : plan_.stages()) {
      try {
        model_.network(none, stage.at.t, std::vector<int>(), answer);
      } catch (const std::runtime_error& error) {
        throw std::invalid_argument("the network cannot take pictures of " + sizes() +
                                    " (its sample_size) at timestep " +
                                    std::to_string(std::lround(stage.at.t)) + ": " + error.what());
      }
    }
  }

  /// Refuses what cannot fit, before the system hands out memory that it does not have. Counted is
  /// what there is for certain: the pictures, the predictions, and of every picture in work the
  /// maps that the network's first level keeps for the way up.
  void check_memory() const {
    const auto& config = model_.network.config();
    const double pixels = static_cast<double>(shape_[2]) * static_cast<double>(shape_[3]);
    const auto pictures = static_cast<double>(shape_[0]);
    const double channels = static_cast<double>(config.in_channels + config.out_channels);
    const double maps =
        static_cast<double>((config.layers_per_block + 1) * config.block_out_channels.front());
    const double numbers =
        pixels * (pictures * channels + std::min<double>(arguments_.threads, pictures) * maps);
    const double needed = static_cast<double>(sizeof(float)) * numbers;
    const auto gigabytes = [](double bytes) {
      return std::to_string(static_cast<std::int64_t>(std::ceil(bytes / 1e9))) + " GB";
    };
    if (needed > machine_memory())
      throw std::invalid_argument(std::to_string(shape_[0]) + " pictures of " + sizes() +
                                  " need too much memory: at least " + gigabytes(needed) +
                                  ", this machine has " + gigabytes(machine_memory()));
  }

  template <class Denoiser>
  void sample(Denoiser&& denoiser) {
    if (arguments_.noise == "philox") {
      sample(denoiser, diffusion::PhiloxNoise{arguments_.seed});
    } else {
      diffusion::TorchCpuNoise noise{arguments_.seed};
      sample(denoiser, noise);
    }
  }

  template <class Denoiser, class Source>
  void sample(Denoiser& denoiser, Source&& noise) {
    const std::size_t groups = std::max<std::size_t>(classes_.size(), 1);
    const bool film = kind_of(arguments_.output) == ".gif";
    std::vector<examples::Image> frames;
    examples::Progress progress("sampling", plan_.network_calls());
    const auto watch = [&](const auto& run) {
      progress.update(run.network_calls() + 1);
      constexpr int most_frames = 60;
      const int every = (run.steps() + most_frames - 1) / most_frames;
      if (film && run.step() % every == 0) frames.push_back(picture_grid(run.state(), groups));
    };
    const Pictures pictures =
        diffusion::sample<Pictures>(plan_, denoiser, shape_, noise,
                                    {.prediction_type = model_.scheduler.prediction_type}, watch);
    if (film) frames.push_back(picture_grid(pictures, groups));
    write(arguments_, pictures, groups, frames);
  }

  Arguments arguments_;
  examples::Model model_;
  diffusion::SamplingPlan plan_;
  std::vector<int> classes_;
  diffusion::ShapeOf<Pictures> shape_{};
};

int complain(const std::exception& error) {
  std::string line = error.what();
  if (dynamic_cast<const std::bad_alloc*>(&error))
    line = "not enough memory for so many pictures (--count, --class) of this size";
  std::replace(line.begin(), line.end(), '\n', ' ');
  std::fprintf(stderr, "sample-images: %s\n", line.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{
      "Pictures from a trained network. Options that are not given come from the folder's "
      "scheduler_config.json, read as diffusers reads it."};
  declare(app, arguments);
  std::optional<Job> job;
  try {
    app.parse(argc, argv);
    check(arguments);
    job.emplace(arguments);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const std::exception& error) {
    return complain(error);
  }
  try {
    job->run();
  } catch (const std::exception& error) {
    complain(error);
    return 1;
  }
}
