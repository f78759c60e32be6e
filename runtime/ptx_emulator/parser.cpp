// PTX text to instructions whose operands are known to suit them: nothing is left to be checked but values.
#include <algorithm>
#include <unordered_map>

#include "runtime/ptx_emulator/program.h"
#include "runtime/ptx_emulator/reader.h"

namespace weft::ptx {
namespace {

// What PTX or a GPU allows, and what keeps the time of a text in bounds; one that asks for more is refused at once.
constexpr int64_t mostParameterBytes = 32764, mostStaticShared = 49152, mostRegisters = 65536, mostScopes = 64,
                  mostAlignment = 4096, mostBranches = 32768;

class Parser {
 public:
  explicit Parser(const std::string &text) : in(text) {}

  Program module() {
    Program program;
    while (!in.done()) {
      if (in.peek() != '.') in.fail("expected a directive, got '" + in.restOfLine() + "'");
      const std::string word = in.name();
      if (word == ".target") {
        program.target = in.name();
        in.toLineEnd();
      } else if (word == ".section") {
        // What debuggers read.
        while (!in.done() && in.peek() != '{') in.pass();
        while (!in.done() && in.peek() != '}') in.pass();
        in.expect('}');
      } else if (word == ".version" || word == ".address_size" || word == ".file") {
        in.toLineEnd();
      } else if (word == ".extern") {
        if (in.name() != ".shared")
          in.fail("expected only a shared variable of unknown size, got '" + in.restOfLine() + "'");
        const Variable own = variable();
        if (own.count >= 0) in.fail("expected a shared variable of unknown size");
        // Behind all static ones; where that is, the kernel knows.
        shared[own.name] = dynamic;
        dynamicAlignment = std::max(dynamicAlignment, own.align);
        in.expect(';');
      } else if (word == ".shared") {
        declareShared(moduleShared);
      } else if (word == ".global") {
        // Known is only how to pass over one: a kernel that names it is refused.
        while (!in.done() && in.peek() != ';') in.pass();
        in.expect(';');
      } else if (word == ".visible" || word == ".entry") {
        if (word == ".visible" && in.name() != ".entry") in.fail("expected .entry");
        Kernel kernel = entry();
        const std::string name = kernel.name;
        if (!program.kernels.emplace(name, std::move(kernel)).second) in.fail("a second kernel " + name);
      } else {
        in.fail("unknown directive " + word);
      }
    }
    return program;
  }

 private:
  Reader in;
  static constexpr int64_t dynamic = -1;
  std::map<std::string, int64_t> shared;  ///< offset, or `dynamic`
  std::map<std::string, uint64_t> parameters;
  int64_t moduleShared = 0, sharedBytes = 0;  ///< of the module; with the kernel's own
  int64_t dynamicAlignment = 16;
  struct Declared {
    int bits;
    int64_t count;
  };  ///< count -1: one register of just this name
  std::map<std::string, Declared> declared;
  std::unordered_map<std::string, int> registers;  ///< those in use
  std::unordered_map<std::string, std::pair<Instruction, Signature>> decoded;

  struct Variable {
    std::string name;
    int64_t align = 1, bytes = 1, count = -1;
  };

  /// [.align N] .type name [ "[" [count] "]" ]: a variable of one element has count 1, one of unknown size -1.
  Variable variable() {
    Variable own;
    std::string word = in.name();
    if (word == ".align") {
      own.align = in.count(mostAlignment);
      if (own.align < 1 || (own.align & (own.align - 1)))
        in.fail("expected an alignment, got " + std::to_string(own.align));
      word = in.name();
    }
    own.bytes = bitsOfDeclared(word) / 8;
    if (!own.bytes) in.fail("expected a type, got '" + word + "'");
    // A parameter's alignment follows its type, and what it points at.
    word = in.name();
    const bool pointer = word == ".ptr";
    if (pointer)
      for (word = in.name(); word == ".global" || word == ".shared" || word == ".const" || word == ".local";)
        word = in.name();
    if (word == ".align" && pointer) {
      in.count(mostAlignment);
      word = in.name();
    } else if (word == ".align") {
      own.align = in.count(mostAlignment);
      if (own.align < 1 || (own.align & (own.align - 1)))
        in.fail("expected an alignment, got " + std::to_string(own.align));
      word = in.name();
    }
    if (word.empty() || word[0] == '.') in.fail("expected a name, got '" + in.restOfLine() + "'");
    own.name = word;
    own.align = std::max(own.align, own.bytes);
    own.count = 1;
    if (in.accept('[')) {
      own.count = in.peek() == ']' ? -1 : in.count(int64_t{1} << 31);
      in.expect(']');
    }
    return own;
  }

  /// Of ".b32" and its like; 0 where it is none.
  static int bitsOfDeclared(const std::string &word) {
    static const std::map<std::string, int> known = {{".pred", 1}, {".b8", 8},   {".u8", 8},   {".s8", 8},
                                                     {".b16", 16}, {".u16", 16}, {".s16", 16}, {".f16", 16},
                                                     {".b32", 32}, {".u32", 32}, {".s32", 32}, {".f32", 32},
                                                     {".b64", 64}, {".u64", 64}, {".s64", 64}, {".f64", 64}};
    auto found = known.find(word);
    return found == known.end() ? 0 : found->second;
  }

  void declareShared(int64_t &bytes) {
    const Variable own = variable();
    if (own.count < 0) in.fail("expected the size of " + own.name);
    bytes = (bytes + own.align - 1) / own.align * own.align;
    if (!shared.emplace(own.name, bytes).second) in.fail("a second " + own.name);
    bytes += own.bytes * own.count;
    if (bytes > mostStaticShared)
      in.fail("wants " + std::to_string(bytes) + " bytes of static shared memory, a GPU has " +
              std::to_string(mostStaticShared));
    in.expect(';');
  }

  Kernel entry() {
    Kernel kernel;
    declared.clear();
    registers.clear();
    parameters.clear();
    const auto outer = shared;
    sharedBytes = moduleShared;
    kernel.name = in.name();
    if (kernel.name.empty()) in.fail("expected a name");
    in.expect('(');
    if (!in.accept(')')) {
      do parameter(kernel);
      while (in.accept(','));
      in.expect(')');
    }
    while (in.peek() == '.') {
      const std::string directive = in.name();
      if (directive == ".reqntid") kernel.threads = threads();
      else if (directive == ".maxntid") kernel.maxThreads = threads();
      else if (directive == ".maxnreg") kernel.maxRegisters = threads();
      else if (directive == ".minnctapersm") kernel.minBlocks = threads();
      else if (directive == ".reqnctapercluster" || directive == ".maxclusterrank") oneBlock(directive);
      else if (directive == ".explicitcluster") continue;
      else in.fail("unknown directive " + directive);
    }
    in.expect('{');
    body(kernel);
    shared = outer;
    return kernel;
  }
  /// "128" or "16, 8, 1": their product.
  int64_t threads() {
    int64_t all = 1;
    do {
      const int64_t own = in.count(65536);
      if (own < 1) in.fail("expected a count, got 0");
      all *= own;
      if (all > 65536) in.fail("expected at most 65536 threads or registers");
    } while (in.accept(','));
    return all;
  }
  void oneBlock(const std::string &directive) {
    if (threads() != 1) in.fail(directive + ": only clusters of one block are known");
  }
  void parameter(Kernel &kernel) {
    if (in.name() != ".param") in.fail("expected .param");
    const Variable own = variable();
    if (own.count < 0) in.fail("expected the size of " + own.name);
    kernel.parameterBytes = (kernel.parameterBytes + own.align - 1) / own.align * own.align;
    if (!parameters.emplace(own.name, kernel.parameterBytes).second) in.fail("a second " + own.name);
    kernel.parameterBytes += own.bytes * own.count;
    if (kernel.parameterBytes > mostParameterBytes)
      in.fail("wants more than " + std::to_string(mostParameterBytes) + " bytes of parameters");
  }

  struct Pending {
    size_t instruction, operand, part;
    std::string label;
  };
  /// What ends with inner braces: registers and labels. Labels still to be found were met from `pending` on.
  struct Scope {
    std::vector<std::string> registers;
    std::map<std::string, int> outerLabels;
    size_t pending;
  };

  /// What a kernel's body has said so far.
  struct Body {
    Kernel &kernel;
    std::map<std::string, int> labels;
    std::vector<Pending> pending;               ///< labels still to be found
    std::vector<const Signature *> signatures;  ///< of kernel.code
    int64_t branches = 0;
    std::vector<Scope> scopes;
  };

  void body(Kernel &kernel) {
    Body own{kernel, {}, {}, {}, 0, {}};
    for (;;) {
      if (in.accept('{')) {
        if (own.scopes.size() >= mostScopes)
          in.fail("more than " + std::to_string(mostScopes) + " braces inside one another");
        own.scopes.push_back({{}, std::move(own.labels), own.pending.size()});
        own.labels.clear();
      } else if (in.accept('}')) {
        if (own.scopes.empty()) break;
        endScope(own);
      } else if (in.done()) {
        in.fail("expected '}'");
      } else if (in.peek() == '.') {
        declaration(own);
      } else {
        statement(own);
      }
    }
    findLabels(own, 0);
    if (!own.pending.empty())
      Reader::failAt(kernel.code[own.pending[0].instruction].line, "unknown label or name " + own.pending[0].label);
    checkInstructions(own);
    kernel.sharedBytes = dynamicBegin(sharedBytes);
    findJoins(kernel);
  }

  void endScope(Body &body) {
    Scope &scope = body.scopes.back();
    for (const std::string &own : scope.registers) {
      declared.erase(own);
      registers.erase(own);
    }
    // A label that is not in these braces may be in those around them.
    findLabels(body, scope.pending);
    body.labels = std::move(scope.outerLabels);
    body.scopes.pop_back();
  }

  void declaration(Body &body) {
    const std::string directive = in.name();
    if (directive == ".reg") {
      declare(body.scopes.empty() ? nullptr : &body.scopes.back().registers);
    } else if (directive == ".shared") {
      // Dynamic shared memory lies behind: its place must be known when its name is met.
      if (!body.kernel.code.empty()) in.fail("expected .shared before the first instruction");
      declareShared(sharedBytes);
    } else if (directive == ".loc" || directive == ".pragma") {
      in.toLineEnd();
    } else {
      in.fail("unknown directive " + directive + " " + in.restOfLine());
    }
  }

  /// name ":" | [ "@" ["!"] predicate ] opcode [ operand { "," operand } ] ";"
  void statement(Body &body) {
    Kernel &kernel = body.kernel;
    const size_t begin = in.position();
    const int line = in.line;
    int guard = -1;
    bool negated = false;
    if (in.accept('@')) {
      negated = in.accept('!');
      const std::string own = in.name();
      guard = registerOf(own, kernel);
      if (kernel.registerBits[guard] != 1) in.fail("expected a predicate, got " + own);
    }
    const std::string opcode = in.name();
    if (guard < 0 && !opcode.empty() && in.accept(':')) {
      if (!body.labels.emplace(opcode, static_cast<int>(kernel.code.size())).second)
        in.fail("a second label " + opcode);
      return;
    }
    const auto &[known, signature] = decode(opcode, line);
    Instruction instruction = known;
    instruction.guard = guard;
    instruction.guardNegated = negated;
    instruction.line = line;
    if (!in.accept(';')) {
      do operand(instruction, kernel, body.pending);
      while (in.accept(','));
      in.expect(';');
    }
    instruction.text = in.since(begin);
    body.branches += instruction.ends != Instruction::Ends::No;
    if (body.branches > mostBranches) in.fail("more than " + std::to_string(mostBranches) + " branches");
    kernel.multiplies |= instruction.warpgroup;
    kernel.needs = std::max(kernel.needs, instruction.needs);
    kernel.code.push_back(std::move(instruction));
    body.signatures.push_back(&signature);
  }

  /// Of those pending from `first` on, what the labels so far tell.
  static void findLabels(Body &body, size_t first) {
    std::erase_if(body.pending, [&](const Pending &own) {
      if (static_cast<size_t>(&own - body.pending.data()) < first) return false;
      auto found = body.labels.find(own.label);
      if (found == body.labels.end()) return false;
      Operand &part = body.kernel.code[own.instruction].operands[own.operand][own.part];
      part.kind = Operand::Kind::Label;
      part.index = found->second;
      return true;
    });
  }

  static void checkInstructions(const Body &body) {
    for (size_t at = 0; at < body.kernel.code.size(); ++at) {
      Instruction &own = body.kernel.code[at];
      try {
        checkOperands(own, *body.signatures[at], body.kernel);
      } catch (const std::exception &error) {
        Reader::failAt(own.line, own.text + " " + error.what());
      }
    }
  }

  int64_t dynamicBegin(int64_t bytes) const {
    return (bytes + dynamicAlignment - 1) / dynamicAlignment * dynamicAlignment;
  }

  const std::pair<Instruction, Signature> &decode(const std::string &opcode, int line) {
    auto found = decoded.find(opcode);
    if (found == decoded.end()) {
      std::pair<Instruction, Signature> own;
      try {
        own.second = ptx::decode(opcode, own.first);
      } catch (const std::exception &error) {
        Reader::failAt(line, error.what());
      }
      found = decoded.emplace(opcode, std::move(own)).first;
    }
    return found->second;
  }

  /// `scope`: the inner braces it stands in, where names need no %.
  void declare(std::vector<std::string> *scope) {
    const std::string type = in.name();
    const int bits = bitsOfDeclared(type);
    if (bits != 1 && bits < 16) in.fail("expected a type of registers, got '" + type + "'");
    do {
      const std::string own = in.name();
      const bool named = scope ? !own.empty() && own[0] != '.' : own.size() >= 2 && own[0] == '%';
      if (!named) in.fail("expected a register, got '" + own + "'");
      int64_t count = -1;
      if (in.accept('<')) {
        count = in.count(int64_t{1} << 31);
        in.expect('>');
      }
      if (scope && count >= 0) in.fail("expected single registers inside inner braces, got " + own + "<");
      if (!declared.emplace(own, Declared{bits, count}).second) in.fail("a second " + own);
      if (scope) scope->push_back(own);
    } while (in.accept(','));
    in.expect(';');
  }

  int registerOf(const std::string &own, Kernel &kernel) {
    if (auto found = registers.find(own); found != registers.end()) return found->second;
    const size_t prefix = own.find_last_not_of("0123456789") + 1;
    auto found = declared.find(own);
    if (found == declared.end() || found->second.count >= 0) {
      // %r7 of %r<8>.
      found = declared.find(own.substr(0, prefix));
      uint64_t number = 0;
      const std::string digits = own.substr(prefix);
      if (found == declared.end() || found->second.count < 0 || digits.empty() || digits.size() > 10 ||
          (digits.size() > 1 && digits[0] == '0') ||
          (number = std::stoull(digits), number >= static_cast<uint64_t>(found->second.count)))
        in.fail("unknown register " + own);
    }
    const int index = static_cast<int>(kernel.registerNames.size());
    if (index >= mostRegisters) in.fail("more than " + std::to_string(mostRegisters) + " registers");
    kernel.registerNames.push_back(own);
    kernel.registerBits.push_back(found->second.bits);
    return registers[own] = index;
  }

  /// A register, number, label, variable or special register.
  Operand simple(const std::string &own, Kernel &kernel, const Instruction &instruction, size_t part,
                 std::vector<Pending> &pending) {
    Operand result;
    if (own.empty()) in.fail("expected an operand, got '" + in.restOfLine() + "'");
    static const std::map<std::string, uint64_t> specials = {
        {"%tid.x", Thread},           {"%tid.y", Zero},           {"%tid.z", Zero},
        {"%ntid.x", Threads},         {"%ntid.y", One},           {"%ntid.z", One},
        {"%ctaid.x", BlockIndex},     {"%ctaid.y", BlockRow},     {"%ctaid.z", Zero},
        {"%nctaid.x", Blocks},        {"%nctaid.y", BlockRows},   {"%nctaid.z", One},
        {"%laneid", LaneIndex},       {"%warpid", WarpIndex},     {"%clusterid.x", BlockIndex},
        {"%clusterid.y", BlockRow},   {"%clusterid.z", Zero},     {"%nclusterid.x", Blocks},
        {"%nclusterid.y", BlockRows}, {"%nclusterid.z", One},     {"%cluster_ctaid.x", Zero},
        {"%cluster_ctaid.y", Zero},   {"%cluster_ctaid.z", Zero}, {"%cluster_nctaid.x", One},
        {"%cluster_nctaid.y", One},   {"%cluster_nctaid.z", One}, {"%cluster_ctarank", Zero},
        {"%cluster_nctarank", One}};
    if (own == "_") {
      result.kind = Operand::Kind::Sink;
    } else if (own[0] == '%' || declared.count(own)) {
      if (auto special = own.back() > '9' ? specials.find(own) : specials.end(); special != specials.end()) {
        result.kind = Operand::Kind::Special;
        result.value = special->second;
      } else {
        result.kind = Operand::Kind::Register;
        result.index = registerOf(own, kernel);
      }
    } else if (std::isdigit(static_cast<unsigned char>(own[0])) || own[0] == '-') {
      if (!Reader::number(own, result.value)) in.fail("malformed number " + own);
    } else if (auto variable = shared.find(own); variable != shared.end()) {
      result.of = Operand::Of::Shared;
      result.value = static_cast<uint64_t>(variable->second == dynamic ? dynamicBegin(sharedBytes) : variable->second);
    } else if (auto parameter = parameters.find(own); parameter != parameters.end()) {
      result.of = Operand::Of::Parameter;
      result.value = parameter->second;
    } else {
      pending.push_back({kernel.code.size(), instruction.operands.size(), part, own});
    }
    return result;
  }

  void operand(Instruction &instruction, Kernel &kernel, std::vector<Pending> &pending) {
    std::vector<Operand> list;
    if (in.accept('{')) {
      do list.push_back(simple(in.word(), kernel, instruction, list.size(), pending));
      while (in.accept(','));
      in.expect('}');
    } else if (in.accept('[')) {
      std::vector<Pending> labels;
      const Operand base = simple(in.word(), kernel, instruction, 0, labels);
      if (!labels.empty()) in.fail("unknown name " + labels[0].label);
      if (base.kind == Operand::Kind::Special) in.fail("expected an address");
      Operand address = base;
      address.kind = Operand::Kind::Address;
      if (base.kind != Operand::Kind::Register) address.index = -1;
      if (in.accept('+')) {
        uint64_t offset = 0;
        const std::string own = in.word();
        if (own.empty() || !Reader::number(own, offset)) in.fail("malformed offset " + own);
        address.value += offset;
      }
      list.push_back(address);
      if (in.accept(',')) {
        if (address.value && base.kind == Operand::Kind::Register) in.fail("expected a tensor map's address alone");
        instruction.operands.push_back(std::move(list));
        list.clear();
        in.expect('{');
        do list.push_back(simple(in.word(), kernel, instruction, list.size(), pending));
        while (in.accept(','));
        in.expect('}');
        for (Operand &own : list) own.joined = true;
      }
      in.expect(']');
    } else {
      list.push_back(simple(in.word(), kernel, instruction, 0, pending));
      if (in.accept('|')) {
        instruction.operands.push_back(std::move(list));
        list.clear();
        list.push_back(simple(in.word(), kernel, instruction, 0, pending));
        list[0].joined = true;
      }
    }
    instruction.operands.push_back(std::move(list));
  }
};

}  // namespace

Program parse(const std::string &text) { return Parser(text).module(); }

}  // namespace weft::ptx
