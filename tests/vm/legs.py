"""An initiator with several connections in one session, whose command numbers and task tags are the session's."""
import initiator
import lio
from initiator import ASYNC, FINAL, LOGOUT, NONE, NOP_IN, TMF, TMF_RESPONSE, pdu

NAME = "iqn.2024-01.org.example:mcs"
TUR = bytes(6)
READ_4K = bytes.fromhex("28000000000000000800")
WRITE_4K = bytes.fromhex("2a000000000000000800")
CLEARED = (0x47, 0x7F)  # SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT
TASK_REASSIGN = 8


class Leg(initiator.Connection):
    """A connection of a session: the command numbers and task tags are the session's."""

    opened = []  # all that ever were
    patience = 10

    def __init__(self, session, cid, portal):
        self.session, self.cid = session, cid
        numbers = session.cmd_sn, session.next_itt
        super().__init__(portal, self.patience)
        self.opened.append(self)
        self.cmd_sn, self.next_itt = numbers

    cmd_sn = property(lambda self: self.session.cmd_sn, lambda self, n: setattr(self.session, "cmd_sn", n))
    next_itt = property(lambda self: self.session.next_itt, lambda self, n: setattr(self.session, "next_itt", n))

    hears_of_others = True  # of connections that are lost
    hears_of_window = False  # that it has opened, where nothing else tells

    def receive(self, timeout=None):
        a = super().receive(timeout)
        while a is not None and self.is_passed_over(a):
            a = super().receive(timeout)
        return a

    def is_passed_over(self, a):
        opens = a.opcode == NOP_IN and a.itt == a.ttt == NONE
        return opens and not self.hears_of_window or a.opcode == ASYNC and not self.hears_of_others

    def tur(self, sn, **kw):
        """Sends TEST UNIT READY with this number; gives its tag."""
        itt = self.itt()
        self.send(self.command_pdu(TUR, itt=itt, numbers=(sn, self.exp_stat_sn), **kw))
        return itt

    def answer(self, itt):
        """The next PDU, which answers this command."""
        a = self.next()
        assert a and a.itt == itt, f"{a} is not for {itt:#x}"
        return a

    def quiet(self):
        """Nothing comes but the answer to a ping."""
        assert self.ping()

    def log_out(self, reason, cid=0, immediate=True):
        itt = self.itt()
        self.send(pdu(LOGOUT, FINAL | reason, itt=itt, immediate=immediate, w=(cid << 16, *self.numbers(immediate))))
        return itt

    def reassign(self, task, exp_data_sn=0, immediate=True):
        """TASK REASSIGN; gives the response code."""
        itt = self.itt()
        self.send(pdu(TMF, FINAL | TASK_REASSIGN, immediate=immediate, itt=itt, w=(task, *self.numbers(immediate), 0, exp_data_sn)))
        a = self.next()
        assert a and (a.opcode, a.itt) == (TMF_RESPONSE, itt), a
        return a.response

    def ended(self):
        """The target has closed it; what came before that."""
        came = []
        try:
            while (a := self.receive()) is not None:
                came.append(a)
        except TimeoutError:
            raise AssertionError(f"connection {self.cid} is still there; {came}") from None
        self.close()  # the target waits for that
        return came


class Session:
    """One initiator port's session."""

    def __init__(self, target, most=4, keys=None, name=NAME, isid=b"\x80\0\0\0\2\1"):
        self.target, self.cmd_sn, self.next_itt = target, 1, 1
        self.login = {"name": name, "isid": isid}
        first = Leg(self, 1, target.portals[0])
        first.login(target.iqn, keys={"MaxConnections": most, "ErrorRecoveryLevel": 0} | (keys or {}), cid=1, **self.login)
        self.tsih, self.legs, self.agreed = first.tsih, [first], first.keys
        while first.scsi(TUR)[0]:
            pass

    def add(self, cid, check=True, tsih=None, keys=None):
        leg = Leg(self, cid, self.target.portals[0])
        tsih = self.tsih if tsih is None else tsih
        answer = leg.login(self.target.iqn, cid=cid, tsih=tsih, check=check, keys=keys, **self.login)
        if answer is None or answer.login_status:
            leg.close()
            return answer
        self.legs.append(leg)
        return leg

    def with_legs(self, n):
        for cid in range(2, n + 1):
            self.add(cid)
        return self.legs

    def take(self):
        """The next command number."""
        n = self.cmd_sn
        self.cmd_sn = n + 1 & NONE
        return n

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for leg in self.legs:
            leg.close()


def sessions(target):
    return int(lio.read(target.wwn_path / "fabric_statistics/iscsi_instance/sessions"))
