#ifndef DIFFUSION_EXAMPLES_NN_UNET2D_CONFIG_HPP
#define DIFFUSION_EXAMPLES_NN_UNET2D_CONFIG_HPP

#include "safetensors.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nn {

enum class Activation { silu, mish, gelu, relu };
enum class TimeEmbedding { positional, fourier, learned };
enum class TimeShift { add, scale_shift };
enum class ClassEmbedding { none, table, timestep, identity };
enum class Resampling { conv, resnet };

/// The kinds of block on the way down and, mirrored, on the way up. `plain` is DownBlock2D and
/// UpBlock2D; the `skip` kinds, of the score-SDE networks, carry a picture beside the features.
enum class BlockKind { plain, attention, resnet, skip, attention_skip };

/// The fields of a diffusers UNet2DModel's config.json with that class's defaults. A field that is
/// absent takes the default, a field that the class does not have is passed over, as there.
/// `dropout` is not kept: it is for training.
struct Unet2dConfig {
  std::optional<std::pair<std::int64_t, std::int64_t>> sample_size;  ///< height, width; a hint only
  std::int64_t in_channels = 3;
  std::int64_t out_channels = 3;
  bool center_input_sample = false;  ///< the network sees 2 x - 1
  TimeEmbedding time_embedding_type = TimeEmbedding::positional;
  std::int64_t time_embedding_dim = 896;  ///< absent or 0: four times the first width
  double freq_shift = 0.0;
  bool flip_sin_to_cos = true;
  std::vector<BlockKind> down_block_types{BlockKind::plain, BlockKind::attention,
                                          BlockKind::attention, BlockKind::attention};
  bool mid_block = true;
  std::vector<BlockKind> up_block_types{BlockKind::attention, BlockKind::attention,
                                        BlockKind::attention, BlockKind::plain};
  std::vector<std::int64_t> block_out_channels{224, 448, 672, 896};
  std::int64_t layers_per_block = 2;
  double mid_block_scale_factor = 1.0;
  std::int64_t downsample_padding = 1;
  Resampling downsample_type = Resampling::conv;  ///< of attention blocks
  Resampling upsample_type = Resampling::conv;    ///< of attention blocks
  Activation act_fn = Activation::silu;
  std::optional<std::int64_t> attention_head_dim = 8;  ///< absent value: one head, the whole width
  std::optional<std::int64_t> norm_num_groups = 32;
  std::optional<std::int64_t> attn_norm_num_groups;
  double norm_eps = 1e-5;
  TimeShift resnet_time_scale_shift = TimeShift::add;
  bool add_attention = true;  ///< in the middle block
  ClassEmbedding class_embedding = ClassEmbedding::none;
  std::int64_t num_class_embeds = 0;
  std::int64_t num_train_timesteps = 0;  ///< needed by the learned time embedding

  std::size_t levels() const { return block_out_channels.size(); }

  /// @throws std::runtime_error that names the field, its value and what it may be
  static Unet2dConfig read(const std::filesystem::path& path) {
    const auto bytes = detail::read_file(path);
    return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  /// The same from the text of the file.
  static Unet2dConfig parse(std::string_view text);
};

namespace detail {

/// Reads typed fields of a JSON object; a wrong type or value is an error that names both.
class ConfigReader {
 public:
  explicit ConfigReader(std::string_view text) : json_(parse_json(text, "config.json")) {
    if (!json_.is_object()) fail("config.json: is " + shown(json_) + ", must be a JSON object");
  }

  const nlohmann::json* find(const char* name) const {
    const auto found = json_.find(name);
    return found == json_.end() ? nullptr : &*found;
  }

  [[noreturn]] static void refuse(const std::string& name, const nlohmann::json& value,
                                  const std::string& allowed) {
    fail("config.json: " + name + " is " + shown(value) + ", must be " + allowed);
  }

  static std::int64_t integer(const std::string& name, const nlohmann::json& value,
                              std::int64_t low, std::int64_t high) {
    // An unsigned number above the largest int64 would come out negative: it is above `high` too.
    const bool fits = value.is_number_integer() &&
                      !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX);
    if (!fits || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high)
      refuse(name, value, "an integer from " + std::to_string(low) + " to " + std::to_string(high));
    return value.get<std::int64_t>();
  }

  void integer(const char* name, std::int64_t& field, std::int64_t low, std::int64_t high) const {
    if (const auto* value = find(name)) field = integer(name, *value, low, high);
  }

  /// An integer or null.
  void integer(const char* name, std::optional<std::int64_t>& field, std::int64_t low,
               std::int64_t high) const {
    const auto* value = find(name);
    if (value == nullptr) return;
    field.reset();
    if (!value->is_null()) field = integer(name, *value, low, high);
  }

  void number(const char* name, double& field) const {
    const auto* value = find(name);
    if (value == nullptr) return;
    if (!value->is_number()) refuse(name, *value, "a number");
    field = value->get<double>();
    if (!(std::abs(field) < 1e30)) refuse(name, *value, "a number between -1e30 and 1e30");
  }

  void boolean(const char* name, bool& field) const {
    const auto* value = find(name);
    if (value == nullptr) return;
    if (!value->is_boolean()) refuse(name, *value, "true or false");
    field = value->get<bool>();
  }

  /// A word out of a list of (word, meaning). A null or absent field leaves `field` as it is.
  template <class Meaning>
  void word(const char* name, Meaning& field,
            const std::vector<std::pair<std::string, Meaning>>& words) const {
    const auto* value = find(name);
    if (value != nullptr && !value->is_null()) field = meaning(name, *value, words);
  }

  template <class Meaning>
  static Meaning meaning(const std::string& name, const nlohmann::json& value,
                         const std::vector<std::pair<std::string, Meaning>>& words) {
    std::string allowed;
    for (const auto& [text, field] : words) {
      if (value.is_string() && value.get_ref<const std::string&>() == text) return field;
      allowed += (allowed.empty() ? "one of \"" : ", \"") + text + "\"";
    }
    refuse(name, value, allowed);
  }

  const nlohmann::json& list(const char* name, std::size_t most) const {
    const nlohmann::json& value = *find(name);
    if (!value.is_array() || value.empty() || value.size() > most)
      refuse(name, value, "a list of 1 to " + std::to_string(most) + " values");
    return value;
  }

 private:
  nlohmann::json json_;
};

inline std::vector<BlockKind> block_kinds(const ConfigReader& reader, const char* name,
                                          std::vector<BlockKind> otherwise, bool down) {
  if (reader.find(name) == nullptr) return otherwise;
  const std::string end = down ? "DownBlock2D" : "UpBlock2D";
  const std::vector<std::pair<std::string, BlockKind>> words{
      {end, BlockKind::plain},
      {"Attn" + end, BlockKind::attention},
      {down ? "ResnetDownsampleBlock2D" : "ResnetUpsampleBlock2D", BlockKind::resnet},
      {"Skip" + end, BlockKind::skip},
      {"AttnSkip" + end, BlockKind::attention_skip}};
  std::vector<BlockKind> kinds;
  for (nlohmann::json entry : reader.list(name, 16)) {
    // The first releases of diffusers wrote the same names with this in front.
    const std::string old_prefix = "UNetRes";
    if (entry.is_string() && entry.get_ref<const std::string&>().starts_with(old_prefix))
      entry = entry.get_ref<const std::string&>().substr(old_prefix.size());
    kinds.push_back(ConfigReader::meaning(
        std::string(name) + "[" + std::to_string(kinds.size()) + "]", entry, words));
  }
  return kinds;
}

inline std::optional<std::pair<std::int64_t, std::int64_t>> sample_size(
    const ConfigReader& reader) {
  constexpr std::int64_t largest = 1 << 20;
  const auto* value = reader.find("sample_size");
  if (value == nullptr || value->is_null()) return std::nullopt;
  if (!value->is_array()) {
    const auto side = ConfigReader::integer("sample_size", *value, 1, largest);
    return std::pair(side, side);
  }
  if (value->size() != 2)
    ConfigReader::refuse("sample_size", *value, "an integer, [height, width] or null");
  return std::pair(ConfigReader::integer("sample_size", (*value)[0], 1, largest),
                   ConfigReader::integer("sample_size", (*value)[1], 1, largest));
}

inline void read_classes(const ConfigReader& reader, Unet2dConfig& config) {
  std::optional<std::int64_t> num_class_embeds;
  reader.integer("num_class_embeds", num_class_embeds, 1, INT32_MAX);
  config.num_class_embeds = num_class_embeds.value_or(0);
  if (num_class_embeds) config.class_embedding = ClassEmbedding::table;
  reader.word<ClassEmbedding>(
      "class_embed_type", config.class_embedding,
      {{"timestep", ClassEmbedding::timestep}, {"identity", ClassEmbedding::identity}});
}

inline Activation activation(const ConfigReader& reader) {
  const auto* value = reader.find("act_fn");
  if (value == nullptr) return Activation::silu;
  nlohmann::json lower = *value;
  if (value->is_string()) {
    auto text = value->get<std::string>();
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    lower = text;
  }
  return ConfigReader::meaning<Activation>("act_fn", lower,
                                           {{"silu", Activation::silu},
                                            {"swish", Activation::silu},
                                            {"mish", Activation::mish},
                                            {"gelu", Activation::gelu},
                                            {"relu", Activation::relu}});
}

inline void check_skip_blocks(const Unet2dConfig& config) {
  // The picture that these blocks carry along has three channels in diffusers, whatever the config.
  const auto is_skip = [](BlockKind kind) {
    return kind == BlockKind::skip || kind == BlockKind::attention_skip;
  };
  const auto& down = config.down_block_types;
  const auto& up = config.up_block_types;
  if (std::any_of(down.begin(), down.end() - 1, is_skip) && config.in_channels != 3)
    fail("config.json: in_channels is " + std::to_string(config.in_channels) +
         ", must be 3 with SkipDownBlock2D and AttnSkipDownBlock2D");
  if (std::any_of(up.begin(), up.end() - 1, is_skip) && config.out_channels != 3)
    fail("config.json: out_channels is " + std::to_string(config.out_channels) +
         ", must be 3 with SkipUpBlock2D and AttnSkipUpBlock2D");
}

}  // namespace detail

inline Unet2dConfig Unet2dConfig::parse(std::string_view text) {
  constexpr std::int64_t widest = 1 << 20;
  const detail::ConfigReader reader(text);
  if (const auto* name = reader.find("_class_name"); name != nullptr && *name != "UNet2DModel")
    detail::ConfigReader::refuse("_class_name", *name, "\"UNet2DModel\"");

  Unet2dConfig config;
  config.sample_size = detail::sample_size(reader);
  reader.integer("in_channels", config.in_channels, 1, widest);
  reader.integer("out_channels", config.out_channels, 1, widest);
  reader.boolean("center_input_sample", config.center_input_sample);
  reader.word<TimeEmbedding>("time_embedding_type", config.time_embedding_type,
                             {{"positional", TimeEmbedding::positional},
                              {"fourier", TimeEmbedding::fourier},
                              {"learned", TimeEmbedding::learned}});
  reader.number("freq_shift", config.freq_shift);
  reader.boolean("flip_sin_to_cos", config.flip_sin_to_cos);

  config.down_block_types =
      detail::block_kinds(reader, "down_block_types", config.down_block_types, true);
  config.up_block_types =
      detail::block_kinds(reader, "up_block_types", config.up_block_types, false);
  if (const auto* mid = reader.find("mid_block_type")) {
    config.mid_block = !mid->is_null();
    if (config.mid_block && *mid != "UNetMidBlock2D")
      detail::ConfigReader::refuse("mid_block_type", *mid, "\"UNetMidBlock2D\" or null");
  }
  if (reader.find("block_out_channels") != nullptr) {
    config.block_out_channels.clear();
    for (const auto& width : reader.list("block_out_channels", 16))
      config.block_out_channels.push_back(
          detail::ConfigReader::integer("block_out_channels", width, 1, widest));
  }
  if (config.down_block_types.size() != config.levels() ||
      config.up_block_types.size() != config.levels())
    detail::fail("config.json: block_out_channels has " + std::to_string(config.levels()) +
                 " levels, down_block_types " + std::to_string(config.down_block_types.size()) +
                 ", up_block_types " + std::to_string(config.up_block_types.size()) +
                 ": must be equal");

  std::optional<std::int64_t> time_embedding_dim;
  reader.integer("time_embedding_dim", time_embedding_dim, 0, widest);
  config.time_embedding_dim = time_embedding_dim.value_or(0);
  if (config.time_embedding_dim == 0) config.time_embedding_dim = 4 * config.block_out_channels[0];

  reader.integer("layers_per_block", config.layers_per_block, 1, 1024);
  reader.number("mid_block_scale_factor", config.mid_block_scale_factor);
  if (config.mid_block_scale_factor == 0.0)
    detail::fail("config.json: mid_block_scale_factor is 0, must not be 0");
  reader.integer("downsample_padding", config.downsample_padding, 0, 1024);
  const std::vector<std::pair<std::string, Resampling>> resamplings{{"conv", Resampling::conv},
                                                                    {"resnet", Resampling::resnet}};
  reader.word("downsample_type", config.downsample_type, resamplings);
  reader.word("upsample_type", config.upsample_type, resamplings);
  config.act_fn = detail::activation(reader);
  reader.integer("attention_head_dim", config.attention_head_dim, 1, widest);
  reader.integer("norm_num_groups", config.norm_num_groups, 1, widest);
  reader.integer("attn_norm_num_groups", config.attn_norm_num_groups, 1, widest);
  reader.number("norm_eps", config.norm_eps);
  if (config.norm_eps < 0.0)
    detail::fail("config.json: norm_eps is " + std::to_string(config.norm_eps) +
                 ", must be at least 0");
  reader.word<TimeShift>("resnet_time_scale_shift", config.resnet_time_scale_shift,
                         {{"default", TimeShift::add}, {"scale_shift", TimeShift::scale_shift}});
  reader.boolean("add_attention", config.add_attention);
  detail::read_classes(reader, config);

  std::optional<std::int64_t> num_train_timesteps;
  reader.integer("num_train_timesteps", num_train_timesteps, 1, INT32_MAX);
  config.num_train_timesteps = num_train_timesteps.value_or(0);
  if (config.time_embedding_type == TimeEmbedding::learned && !num_train_timesteps)
    detail::fail(
        "config.json: num_train_timesteps is null, must be at least 1 with "
        "time_embedding_type \"learned\"");
  detail::check_skip_blocks(config);
  return config;
}

}  // namespace nn

#endif
