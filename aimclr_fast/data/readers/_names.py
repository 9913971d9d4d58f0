"""Names of the classes, in the order of the data sets' own numbers."""

from __future__ import annotations


def _split(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(";"))


#: A1 to A120 of NTU RGB+D 120 (Liu et al., TPAMI 2019); the first 60 are NTU RGB+D's.
NTU = _split("""\
drink water; eat meal; brush teeth; brush hair; drop; pick up; throw; sit down; stand up; clapping;
reading; writing; tear up paper; put on jacket; take off jacket; put on a shoe; take off a shoe;
put on glasses; take off glasses; put on a hat; take off a hat; cheer up; hand waving;
kicking something; reach into pocket; hopping; jump up; phone call; play with phone;
type on a keyboard; point to something; taking a selfie; check time; rub two hands; nod head/bow;
shake head; wipe face; salute; put palms together; cross hands in front; sneeze/cough; staggering;
falling down; headache; chest pain; back pain; neck pain; nausea/vomiting; fan self;
punch/slap another; kicking another; pushing another; pat on back; point finger at another; hugging;
giving object; touch pocket; shaking hands; walking towards; walking apart;
put on headphone; take off headphone; shoot at basket; bounce ball; tennis bat swing;
juggle table tennis ball; hush; flick hair; thumb up; thumb down; make OK sign; make victory sign;
staple book; counting money; cutting nails; cutting paper; snap fingers; open bottle; sniff/smell;
squat down; toss a coin; fold paper; ball up paper; play magic cube; apply cream on face;
apply cream on hand; put on bag; take off bag; put object into bag; take object out of bag;
open a box; move heavy objects; shake fist; throw up cap; capitulate; cross arms; arm circles;
arm swings; run on the spot; butt kicks; cross toe touch; side kick; yawn; stretch oneself;
blow nose; hit another with object; wield knife; knock over another; grab another's belongings;
shoot with gun; step on foot; high-five; cheers and drink; carry object together; take a photo;
follow another; whisper; exchange things; support somebody; rock-paper-scissors""")

#: Classes 1 to 51 of PKU-MMD (Liu et al., 2017); part II has 41 of them.
PKU = _split("""\
bow; brushing hair; brushing teeth; check time; cheer up; clapping; cross hands in front;
drink water; drop; eat meal; falling; giving something to another; hand waving; handshaking;
hopping; hugging another; jump up; kicking another; kicking something; make a phone call;
pat on another's back; pick up; playing with phone; point finger at another; point to something;
punching another; pushing another; put on a hat; put something inside pocket; reading; rub hands;
salute; sitting down; standing up; take off a hat; take off glasses; take off jacket;
take out of pocket; taking a selfie; tear up paper; throw; touch back; touch chest; touch head;
touch neck; typing on a keyboard; use a fan; wear jacket; wear on glasses; wipe face; writing""")

#: a1 to a27 of UTD-MHAD (Chen et al., ICIP 2015).
UTD_MHAD = _split("""\
swipe left; swipe right; wave; clap; throw; arm cross; basketball shoot; draw x;
draw circle clockwise; draw circle counter-clockwise; draw triangle; bowling; boxing;
baseball swing; tennis swing; arm curl; tennis serve; push; knock; catch; pick up and throw; jog;
walk; sit to stand; stand to sit; lunge; squat""")

#: Labels 1 to 10 of NW-UCLA (Wang et al., CVPR 2014).
NW_UCLA = _split("""\
pick up with one hand; pick up with two hands; drop trash; walk around; sit down; stand up;
donning; doffing; throw; carry""")

#: m01 to m10 of UI-PRMD (Vakanski et al., Data 2018).
UI_PRMD = _split("""\
deep squat; hurdle step; inline lunge; side lunge; sit to stand;
standing active straight leg raise; standing shoulder abduction; standing shoulder extension;
standing shoulder internal-external rotation; standing shoulder scaption""")

#: Folders 01 to 08 of SBU Kinect Interaction (Yun et al., CVPRW 2012).
SBU = _split("""\
approaching; departing; kicking; punching; pushing; hugging; shaking hands; exchanging""")
