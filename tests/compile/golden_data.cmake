# Writes OUTPUT, the cases of the golden file INPUT as C++ statements: golden-ddim then needs no
# file at run time and nothing but Eigen to compile.
#   cmake -DINPUT=ddim.json -DOUTPUT=golden_ddim.inc -P golden_data.cmake
cmake_minimum_required(VERSION 3.20)

file(READ ${INPUT} text)
string(JSON count LENGTH "${text}" cases)
math(EXPR last "${count} - 1")

# The value at a path of the case, `otherwise` where it is missing.
function(get result otherwise)
  string(JSON value ERROR_VARIABLE missing GET "${case}" ${ARGN})
  if(missing)
    set(value "${otherwise}")
  endif()
  set(${result} "${value}" PARENT_SCOPE)
endfunction()

function(get_bool result)
  get(value OFF ${ARGN})
  set(word false)
  if(value)
    set(word true)
  endif()
  set(${result} ${word} PARENT_SCOPE)
endfunction()

function(get_list result)
  get(value "[]" ${ARGN})
  string(REPLACE "[" "{" value "${value}")
  string(REPLACE "]" "}" value "${value}")
  string(REGEX REPLACE "[ \n]+" " " value "${value}")
  set(${result} "${value}" PARENT_SCOPE)
endfunction()

set(cases "")
foreach(i RANGE ${last})
  string(JSON case GET "${text}" cases ${i})
  get(name "" name)
  get(betas "" config trained_betas)
  get(coefficients "" coefficients)
  if(betas MATCHES "[0-9]" OR NOT coefficients STREQUAL "float64")
    continue()
  endif()

  foreach(key beta_schedule beta_start beta_end prediction_type timestep_spacing steps_offset
              num_train_timesteps clip_sample_range dynamic_thresholding_ratio sample_max_value)
    get(${key} "" config ${key})
  endforeach()
  foreach(key clip_sample thresholding rescale_betas_zero_snr set_alpha_to_one)
    get_bool(${key} config ${key})
  endforeach()
  get_bool(use_clipped step_kwargs use_clipped_model_output)
  get(eta 0 step_kwargs eta)
  get(steps "" num_inference_steps)
  get(model "" model)
  get_list(shape shape)
  get_list(initial initial_sample)
  get_list(noise noise)
  string(JSON states LENGTH "${case}" trajectory)
  math(EXPR end "${states} - 1")
  get_list(expected trajectory ${end})

  string(REPLACE "v_prediction" "v" prediction_type ${prediction_type})
  set(clipping "Clipping::none()")
  if(thresholding)
    set(clipping "Clipping::dynamic(${dynamic_thresholding_ratio}, ${sample_max_value})")
  elseif(clip_sample)
    set(clipping "Clipping::range(${clip_sample_range})")
  endif()
  set(epsilon raw)
  if(use_clipped)
    set(epsilon rederived)
  endif()
  set(dummy false)
  if(model STREQUAL "diffusers_dummy")
    set(dummy true)
  endif()

  string(APPEND cases "{
  GoldenCase c;
  c.name = \"${name}\";
  c.beta_schedule = BetaSchedule::${beta_schedule};
  c.schedule.train_timesteps = ${num_train_timesteps};
  c.schedule.beta_start = ${beta_start};
  c.schedule.beta_end = ${beta_end};
  c.schedule.rescale_zero_terminal_snr = ${rescale_betas_zero_snr};
  c.prediction_type = PredictionType::${prediction_type};
  c.options.steps = ${steps};
  c.options.eta = ${eta};
  c.options.grid.spacing = TimestepSpacing::${timestep_spacing};
  c.options.grid.steps_offset = ${steps_offset};
  c.options.grid.set_alpha_to_one = ${set_alpha_to_one};
  c.options.grid.previous = PreviousTimestep::stride;
  c.options.clipping = ${clipping};
  c.options.epsilon = EpsilonRule::${epsilon};
  c.dummy = ${dummy};
  c.shape = ${shape};
  c.initial = ${initial};
  c.noise = ${noise};
  c.expected = ${expected};
  cases.push_back(c);
}
")
endforeach()
file(WRITE ${OUTPUT} "${cases}")
