#include "models/mass_texts.h"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <vector>

#include "compiler/statements.h"

namespace weft {
namespace {

/// `words` with what `let`s name in their names' places.
Words unfolded(const Words &words, const std::map<std::string, Words> &lets) {
  Words result;
  for (const std::string &word : words) {
    const auto found = lets.find(word);
    if (found == lets.end()) {
      result.push_back(word);
      continue;
    }
    result.push_back("(");
    result.insert(result.end(), found->second.begin(), found->second.end());
    result.push_back(")");
  }
  return result;
}

std::string written(const StatementText &text, const Words &more) {
  std::string all = joined(text.head) + " {\n  where i >= j\n";
  for (const std::string &line : more) all += "  " + line + "\n";
  return all + "}\n";
}

[[noreturn]] void refuse(const Variant &variant, const std::string &expected, const std::string &got) {
  throw std::invalid_argument("--mass: expected " + expected + ", got '" + variant.name() + "', " + got);
}

}  // namespace

MassTexts massTexts(const Variant &variant) {
  if (!variant.hasLogSumExp())
    refuse(variant, "a variant whose rows are a softmax",
           "which has another normaliser: its pairs have no mass of one whole");
  if (variant.keyList().input >= 0)
    refuse(variant, "a variant that looks at all keys", "whose keys are named by lists");
  if (variant.keySets().size() > 1)
    refuse(variant, "a variant of the keys of v", "which has more keys in the same softmax");
  const StatementText text = statementsOf(variant);
  std::map<std::string, Words> lets;
  Words common, masks, scores, weights, selects, definitions;
  Words score, choosing;
  auto add = [](Words &list, const Words &words) { list.insert(list.end(), words.begin(), words.end()); };
  for (const Statement &statement : text.statements) {
    const std::string line = joined(statement.words);
    if (statement.keyword == "let") {
      lets[statement.words[1]] = unfolded({statement.words.begin() + 3, statement.words.end()}, lets);
      common.push_back(line);
    } else if (statement.keyword == "def") {
      common.push_back(line);
      definitions.push_back(joined(statement.words, ""));
    } else if (statement.keyword == "where") {
      masks.push_back(line);
      add(choosing, unfolded(statement.behind(), lets));
    } else if (statement.keyword == "score") {
      scores.push_back(line);
      score = unfolded(statement.behind(), lets);
    } else if (statement.keyword == "weight") {
      weights.push_back(joined(statement.behind()));
      if (!variant.selects()) add(choosing, unfolded(statement.behind(), lets));
    } else if (statement.keyword == "select") {
      selects.push_back(line);
      add(choosing, {std::find(statement.words.begin(), statement.words.end(), "{"), statement.words.end()});
    }
  }
  MassTexts made;
  made.weighted = variant.selects() && !weights.empty();
  Words exact = common, kept = common, counted = common;
  add(exact, scores);
  Words positive;
  for (const std::string &weight : weights) positive.push_back("where (" + weight + ") > 0");
  for (Words *list : {&kept, &counted}) add(*list, masks);
  add(kept, scores);
  counted.push_back("score 0.0");
  if (made.weighted) {
    exact.push_back("weight " + weights[0]);
    kept.push_back("weight " + weights[0]);
  } else {
    add(kept, positive);
  }
  add(counted, positive);
  for (Words *list : {&kept, &counted}) add(*list, selects);
  made.exact = written(text, exact);
  made.kept = written(text, kept);
  made.counted = written(text, counted);
  made.score = joined(score, "");
  for (const std::string &definition : definitions)
    if (made.score.find(definition.substr(3, definition.find('(') - 2)) != std::string::npos)
      made.score += ", " + definition;
  const std::set<std::string> chosenBy(choosing.begin(), choosing.end()), scoredBy(score.begin(), score.end());
  for (const InputInfo &input : variant.inputs())
    if (chosenBy.count(input.name) > 0 && scoredBy.count(input.name) == 0) made.selecting.insert(input.name);
  return made;
}

}  // namespace weft
